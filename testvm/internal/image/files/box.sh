# box.sh USERLAND KERNEL OUT FILES KEY: a Vagrant box for libvirt. It carries a
# Vagrantfile of its own that boots its kernel directly, without a boot loader.
userland=$1 kernel=$2 out=$3 files=$4 key=$5
work=$(mktemp -d "$out.XXXXXX")
trap 'rm -rf "$work"' EXIT
tree=$work/tree
mkdir "$tree"
tar -C "$tree" --exclude='./dev/*' -xf "$userland"
# Before units are masked: with systemd-networkd comes one of those, which Debian 11
# does not enable then.
chroot "$tree" systemctl enable -q systemd-networkd ssh
sh -eu "$files/debloat.sh" "$tree"
: >"$tree/etc/machine-id" # systemd-networkd makes its DHCP identity from it

mkdir -p "$tree/lib/modules"
debugfs -R "rdump /$(cat "$kernel/release") $tree/lib/modules" "$kernel/modules.ext4" 2>/dev/null
[ -d "$tree/lib/modules/$(cat "$kernel/release")" ]

chroot "$tree" useradd -m -s /bin/bash -u 1000 vagrant
echo 'vagrant:vagrant' | chroot "$tree" chpasswd
echo 'vagrant ALL=(ALL) NOPASSWD:ALL' >"$tree/etc/sudoers.d/vagrant"
chmod 440 "$tree/etc/sudoers.d/vagrant"
install -d -m 700 -o 1000 -g 1000 "$tree/home/vagrant/.ssh"
install -m 600 -o 1000 -g 1000 "$key" "$tree/home/vagrant/.ssh/authorized_keys"
echo 'UseDNS no' >>"$tree/etc/ssh/sshd_config"

cat >"$tree/etc/systemd/network/50-dhcp.network" <<'NET'
[Match]
Name=en* eth*
[Network]
DHCP=ipv4
[DHCPv4]
ClientIdentifier=mac
NET
echo testvm >"$tree/etc/hostname"
printf '127.0.0.1 localhost testvm\n::1 localhost\n' >"$tree/etc/hosts"
: >"$tree/etc/fstab"

size=$(du -sm "$tree" | cut -f1)
mkfs.ext4 -q -O none,extents,filetype,dir_index,sparse_super,large_file,extra_isize,has_journal -m 0 -L root \
	-E lazy_itable_init=0,lazy_journal_init=0 -d "$tree" "$work/root.ext4" $((size + size / 6 + 1024))M
qemu-img convert -f raw -O qcow2 "$work/root.ext4" "$work/box.img"
cp "$kernel/vmlinuz" "$kernel/initrd" "$work/"
echo '{"provider":"libvirt","format":"qcow2","virtual_size":2}' >"$work/metadata.json"
cat >"$work/Vagrantfile" <<'RUBY'
here = File.expand_path(File.dirname(__FILE__))
Vagrant.configure("2") do |config|
  config.ssh.insert_key = false
  config.vm.provider :libvirt do |libvirt|
    libvirt.kernel = File.join(here, "vmlinuz")
    libvirt.initrd = File.join(here, "initrd")
    libvirt.cmd_line = "init=/lib/systemd/systemd console=ttyS0 quiet panic=-1 net.ifnames=0 mitigations=off"
    libvirt.graphics_type = "none"
  end
end
RUBY
tar -C "$work" -cf - metadata.json Vagrantfile box.img vmlinuz initrd | gzip -1 >"$out"
