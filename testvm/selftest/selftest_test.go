// Package selftest is the harness's own tests, as they run inside a machine: they
// show that the machine is what its name says. Outside of one there is nothing
// to show.
package selftest

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/testvm"
)

// machine returns the machine's name.
func machine(t *testing.T) string {
	t.Helper()
	g, err := testvm.Guest()
	if err != nil {
		t.Fatal(err)
	}
	if !g.Inside() {
		t.Skip("this is no test VM")
	}
	return g.Machine
}

// boxes are the kernels of the boxes that are built from Debian's releases.
var boxes = map[string]string{"vagrant-debian11": "5.10", "vagrant-debian12": "6.1", "vagrant-debian13": "6.12"}

// parts takes the machine's name apart: kernel, init and, if it has one, boot.
func parts(t *testing.T) (kernel, init, boot string) {
	t.Helper()
	name := machine(t)
	if series, ok := boxes[name]; ok {
		return series, "systemd", ""
	}
	p := append(strings.SplitN(name, "-", 3), "")
	return p[0], p[1], p[2]
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(b))
}

func TestKernelIsTheOneAskedFor(t *testing.T) {
	kernel, _, _ := parts(t)
	release := read(t, "/proc/sys/kernel/osrelease")
	if kernel != "newest" && !strings.HasPrefix(release, kernel+".") {
		t.Errorf("machine of kernel %s runs %s", kernel, release)
	}
	if _, err := os.Stat(filepath.Join("/lib/modules", release)); err != nil {
		t.Errorf("modules of the running kernel: %v", err)
	}
}

func TestFirstProcessIsTheOneAskedFor(t *testing.T) {
	_, init, _ := parts(t)
	want := map[string]string{"plain": "init", "systemd": "systemd"}[init]
	if got := read(t, "/proc/1/comm"); got != want {
		t.Errorf("process 1 is %q, want %q", got, want)
	}
}

func TestLSMListIsTheOneBooted(t *testing.T) {
	_, _, boot := parts(t)
	if os.Geteuid() != 0 {
		t.Skip("an ordinary user has no need of it")
	}
	list := strings.Split(read(t, "/sys/kernel/security/lsm"), ",")
	has := false
	for _, lsm := range list {
		has = has || lsm == "bpf"
	}
	g, _ := testvm.Guest()
	want := true
	for _, name := range g.Without {
		want = want && name != testvm.BPFLSM
	}
	if has != want {
		t.Errorf("boot %q has bpf in lsm=%s: %t, want %t", boot, strings.Join(list, ","), has, want)
	}
}

func TestOrdinaryUserIsOrdinary(t *testing.T) {
	_, init, _ := parts(t)
	uid := os.Geteuid()
	if uid != 0 && uid != 1000 {
		t.Fatalf("tests run as uid %d", uid)
	}
	if err := os.WriteFile("/proc/sys/kernel/core_pattern", []byte("core\n"), 0); (err == nil) != (uid == 0) {
		t.Errorf("uid %d writes core_pattern: %v", uid, err)
	}
	if uid == 0 || init != "systemd" {
		return
	}
	if cgroup := read(t, "/proc/self/cgroup"); !strings.Contains(cgroup, "/user@1000.service/") {
		t.Errorf("not in the user's session: %s", cgroup)
	}
}

func TestProgramsOfTestsAreThere(t *testing.T) {
	machine(t)
	for _, name := range []string{"bwrap", "nft", "ip", "git", "curl", "ssh", "strace", "python3", "unshare"} {
		if _, err := exec.LookPath(name); err != nil {
			t.Error(err)
		}
	}
	out, err := exec.Command("/payload/bin/sallyport", "version").CombinedOutput()
	if err != nil {
		t.Errorf("sallyport version: %v\n%s", err, out)
	}
}

func TestTestdataLiesBesideTheTest(t *testing.T) {
	if got := read(t, "testdata/here"); got != "yes" {
		t.Errorf("testdata/here says %q", got)
	}
}
