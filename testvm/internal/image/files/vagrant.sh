# vagrant.sh NAME REPORT: one machine of the Vagrantfile, up to destruction.
name=$1 report=$2
status=0
vagrant --no-color up --provider=libvirt "$name" || status=$?
vagrant --no-color ssh "$name" -c 'cat /var/tmp/testvm.report' >"$report" || status=$?
vagrant --no-color destroy -f "$name" || status=$?
exit $status
