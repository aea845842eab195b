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
chroot "$tree" systemctl disable -q ssh.service
# Profiles take seconds to compile; a login nobody uses, a seed for the next boot.
for unit in apparmor.service serial-getty@ttyS0.service systemd-binfmt.service systemd-random-seed.service \
	systemd-update-utmp.service systemd-journal-flush.service; do
	ln -sfn /dev/null "$tree/etc/systemd/system/$unit"
done
mkdir -p "$tree/var/lib/systemd/linger"
: >"$tree/var/lib/systemd/linger/tester"
echo testvm >"$tree/etc/hostname"
printf '127.0.0.1 localhost\n::1 localhost\n127.0.1.1 testvm\n' >"$tree/etc/hosts"
echo 'tmpfs /tmp tmpfs mode=1777,nosuid,nodev 0 0' >"$tree/etc/fstab"

size=$(du -sm "$tree" | cut -f1)
mkfs.ext4 -q -O none,extents,filetype,dir_index,sparse_super,large_file,extra_isize,has_journal -m 0 -L root -E lazy_itable_init=0,lazy_journal_init=0 \
	-d "$tree" "$out" $((size + size / 6 + 512))M
