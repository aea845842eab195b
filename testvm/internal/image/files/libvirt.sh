# libvirt.sh STATE COMMAND...: runs a command beside a libvirtd of its own. It is
# process 1 of new mount, network and pid namespaces: bridge, firewall, daemons and
# machines are seen by nobody else and die with it.
state=$1
shift
mount --make-rprivate /
ip link set lo up
for dir in /run /var/lib/libvirt /var/log/libvirt /var/cache/libvirt; do
	mkdir -p "$dir"
	mount -t tmpfs -o mode=0755 libvirt "$dir"
done
mkdir -p /run/dbus /run/lock /var/lib/libvirt/images "$state/images"
mount --bind "$state/images" /var/lib/libvirt/images
cp -a /etc/libvirt "$state/etc"
mount --bind "$state/etc" /etc/libvirt
rm -rf /etc/libvirt/qemu/networks
# One user, no cgroups to make, no namespaces to nest, no security driver: libvirt
# asks for them by default and finds none here.
cat >/etc/libvirt/qemu.conf <<'CONF'
user = "root"
group = "root"
security_driver = "none"
namespaces = []
cgroup_controllers = []
remember_owner = 0
stdio_handler = "file"
CONF
cat >/etc/libvirt/libvirtd.conf <<'CONF'
auth_unix_ro = "none"
auth_unix_rw = "none"
unix_sock_group = "root"
CONF
dbus-daemon --system --nopidfile
virtlogd -d
libvirtd -d
tries=0
until virsh -q -c qemu:///system list >/dev/null 2>&1; do
	tries=$((tries + 1))
	[ $tries -lt 100 ] || { echo "libvirtd does not answer" >&2; exit 1; }
	sleep 0.1
done
"$@"
