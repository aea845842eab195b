#!/bin/sh
# installed.sh DEB DIR: install, upgrade, remove and purge a package in a mount
# namespace of its own, on an overlay of this system, and list what it left.
set -eu
deb=$(realpath "$1") dir=$2
mount -t tmpfs none "$dir"
mkdir "$dir/upper" "$dir/work" "$dir/root"
mount -t overlay -o lowerdir=/,upperdir="$dir/upper",workdir="$dir/work" none "$dir/root"
for d in proc dev; do mount --rbind /$d "$dir/root/$d"; done
mount -t tmpfs none "$dir/root/run"
mount -t tmpfs none "$dir/root/tmp"
cp "$deb" "$dir/root/tmp/sallyport.deb"
chroot "$dir/root" sh -eux <<'X'
dpkg -i /tmp/sallyport.deb
sallyport version
sallyport agent --help
test -x /usr/bin/sallyport -a -d /etc/sallyport/policy.d
test -L /etc/systemd/system/multi-user.target.wants/sallyport-agent.service
grep '^ExecStart=/usr/bin/sallyport-agent$' /usr/lib/systemd/system/sallyport-agent.service
zcat -f /usr/share/man/man1/sallyport-run.1* | grep -q 'inside the boundary'
bash -n /usr/share/bash-completion/completions/sallyport
dpkg -i /tmp/sallyport.deb # again, as an upgrade
mkdir -p /var/lib/sallyport/audit && echo '{}' >/var/lib/sallyport/audit/x.jsonl
dpkg -r sallyport
test -e /var/lib/sallyport/audit/x.jsonl # the record outlives the program
test ! -e /usr/bin/sallyport
dpkg -P sallyport
X
# What dpkg and systemd note about any package is not this one's.
cd "$dir/upper"
find . -path ./var/lib/dpkg -prune -o -path ./var/log -prune -o -path ./var/cache -prune -o -path ./var/lib/systemd -prune -o -print |
	while read -r f; do
		if [ -d "$f" ] && [ ! -L "$f" ]; then test -d "/$f"; else cmp "$f" "/$f"; fi || echo "left: $f"
	done | { ! grep .; }
