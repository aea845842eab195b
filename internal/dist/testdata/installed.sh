#!/bin/sh
# installed.sh DEB DIR: in a mount namespace of its own, on an overlay of this
# system, of which nothing remains. DIR is where the overlay is.
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
# What dpkg and systemd note about any package is not the package's.
list() { find / -xdev ! -path '/var/lib/dpkg/*' ! -path '/var/log/*' ! -path '/var/cache/*' ! -path '/tmp/*' \
	! -path '/var/lib/systemd/*' ! -path '/run/*' ! -path '/proc/*' ! -path '/dev/*' -printf '%y %m %u %p\n' | sort; }
list >/tmp/before
dpkg -i /tmp/sallyport.deb
sallyport version
test -x /usr/bin/sallyport -a -d /etc/sallyport/policy.d
test -L /etc/systemd/system/multi-user.target.wants/sallyport-agent.service
grep '^ExecStart=/usr/bin/sallyport agent' /usr/lib/systemd/system/sallyport-agent.service
zcat -f /usr/share/man/man1/sallyport-run.1* | grep -q 'inside the boundary'
bash -n /usr/share/bash-completion/completions/sallyport
dpkg -i /tmp/sallyport.deb # again, as an upgrade
mkdir -p /var/lib/sallyport/audit && echo '{}' >/var/lib/sallyport/audit/x.jsonl
dpkg -r sallyport
test -e /var/lib/sallyport/audit/x.jsonl # the record outlives the program
test ! -e /usr/bin/sallyport
dpkg -P sallyport
list >/tmp/after
diff /tmp/before /tmp/after
X
