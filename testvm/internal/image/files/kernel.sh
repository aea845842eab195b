# kernel.sh PACKAGES OUT INIT: unpacks a kernel's packages; OUT gets vmlinuz,
# release, initrd (busybox, INIT, the modules that the disks need) and
# modules.ext4, which a machine mounts at /lib/modules.
debs=$1 out=$2 init=$3
mkdir "$out"
work=$out/work tree=$out/work/tree initrd=$out/work/initrd
mkdir -p "$tree" "$initrd/bin" "$initrd/modules" "$initrd/proc" "$initrd/sys" "$initrd/dev" "$initrd/root"
for deb in "$debs"/*.deb; do dpkg-deb -x "$deb" "$tree"; done
[ -d "$tree/lib/modules" ] || ln -s usr/lib "$tree/lib"
release=$(ls "$tree/lib/modules")
echo "$release" >"$out/release"
depmod -b "$tree" "$release"
for image in "$tree/boot/vmlinuz-$release" "$tree/usr/lib/modules/$release/vmlinuz"; do
	[ ! -f "$image" ] || cp "$image" "$out/vmlinuz"
done
[ -f "$out/vmlinuz" ]

cp "$(command -v busybox)" "$initrd/bin/busybox"
ln -s busybox "$initrd/bin/sh"
printf '%s' "$init" >"$initrd/init"
chmod 755 "$initrd/init"
: >"$initrd/modules/order"
# Built-in modules print "builtin"; crc32c is what ext4 asks for by alias.
for module in virtio_pci virtio_blk virtio_console virtio_rng virtio_net ext4 crc32c_generic; do
	modprobe -d "$tree" -S "$release" --show-depends "$module" 2>/dev/null || true
done | while read -r verb file _; do
	[ "$verb" = insmod ] || continue
	name=$(basename "$file")
	name=${name%.xz}
	[ ! -e "$initrd/modules/$name" ] || continue
	case $file in
	*.xz) xz -dc "$file" >"$initrd/modules/$name" ;;
	*) cp "$file" "$initrd/modules/$name" ;;
	esac
	echo "$name" >>"$initrd/modules/order"
done
(cd "$initrd" && find . | cpio --quiet -o -H newc | gzip -1) >"$out/initrd"

mkdir "$work/modules"
mv "$tree/lib/modules/$release" "$work/modules/"
size=$(du -sm "$work/modules" | cut -f1)
mkfs.ext4 -q -O none,extents,filetype,dir_index,sparse_super,extra_isize -m 0 -L modules \
	-d "$work/modules" "$out/modules.ext4" $((size + size / 6 + 8))M
rm -rf "$work"
