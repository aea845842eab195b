# root.sh USERLAND OUT FILES: the root file system of test VMs.
userland=$1 out=$2 files=$3
tree=$(mktemp -d "$out.XXXXXX")
trap 'rm -rf "$tree"' EXIT
chmod 755 "$tree"
tar -C "$tree" --exclude='./dev/*' -xf "$userland"
sh -eu "$files/debloat.sh" "$tree"

mkdir -p "$tree/vm" "$tree/payload" "$tree/lib/modules"
install -m 755 "$files/plain-init" "$tree/vm/init"
install -m 755 "$files/job" "$tree/vm/job"
install -m 644 "$files/testvm-nocaps" "$tree/etc/apparmor.d/"
chroot "$tree" useradd -m -s /bin/bash -u 1000 tester
install -m 644 "$files/testvm.service" "$tree/etc/systemd/system/"
chroot "$tree" systemctl enable -q testvm.service
[ ! -e "$tree/lib/systemd/system/ssh.service" ] || chroot "$tree" systemctl disable -q ssh.service
# Profiles take seconds to compile; a login nobody uses, a seed for the next boot.
# Devices are the kernel's: without KVM udev takes longer than the rest of a boot.
for unit in apparmor.service serial-getty@ttyS0.service systemd-binfmt.service systemd-random-seed.service \
	systemd-update-utmp.service systemd-update-utmp-runlevel.service systemd-journal-flush.service \
	systemd-udevd.service systemd-udevd-control.socket systemd-udevd-kernel.socket systemd-udev-trigger.service \
	systemd-tmpfiles-setup-dev.service systemd-tmpfiles-clean.timer kmod-static-nodes.service systemd-modules-load.service \
	systemd-remount-fs.service modprobe@.service dev-hugepages.mount dev-mqueue.mount sys-kernel-debug.mount \
	sys-kernel-config.mount sys-fs-fuse-connections.mount systemd-ask-password-console.path \
	systemd-ask-password-wall.path getty.target systemd-pstore.service; do
	ln -sfn /dev/null "$tree/etc/systemd/system/$unit"
done
# Generators look for what a machine like this has none of, one program each.
mkdir "$tree/etc/systemd/system-generators" "$tree/etc/systemd/user-generators"
for generator in "$tree"/lib/systemd/system-generators/* "$tree"/usr/lib/systemd/user-generators/*; do
	kind=$(basename "$(dirname "$generator")")
	ln -sfn /dev/null "$tree/etc/systemd/$kind/$(basename "$generator")"
done
if [ -e "$tree/usr/share/systemd/tmp.mount" ]; then # since Debian 13 it is as it is here
	cp "$tree/usr/share/systemd/tmp.mount" "$tree/etc/systemd/system/"
	chroot "$tree" systemctl enable -q tmp.mount
fi
mkdir -p "$tree/var/lib/systemd/linger"
: >"$tree/var/lib/systemd/linger/tester"
echo testvm >"$tree/etc/hostname"
printf '127.0.0.1 localhost\n::1 localhost\n127.0.1.1 testvm\n' >"$tree/etc/hosts"
: >"$tree/etc/fstab"

size=$(du -sm "$tree" | cut -f1)
mkfs.ext4 -q -O none,extents,filetype,dir_index,sparse_super,large_file,extra_isize,has_journal -m 0 -L root -E lazy_itable_init=0,lazy_journal_init=0 \
	-d "$tree" "$out" $((size + size / 6 + 512))M
