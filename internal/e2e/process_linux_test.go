package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestProcessOneIsOutOfReach(t *testing.T) {
	h := newHome(t)
	h.env = append(h.env, "GITHUB_TOKEN=sesame")
	r := h.attack("read /proc/1/environ: EACCES", "read /proc/1/fd: EACCES", "read /proc/1/cwd: EACCES", "read /proc/1/root: EACCES", "read /proc/1/maps: EACCES",
		"peek 1: EACCES", "write /proc/1/mem: EACCES", "ptrace 1: EPERM", "vmread 1: EPERM", "setns /proc/1/ns/mnt: EACCES|EPERM",
		"kill 1 9: ok", "signal0 1: ok") // process 1 of a namespace ignores what it has no handler for (pid_namespaces(7))
	if strings.Contains(r.out, "sesame") {
		t.Error("the caller's environment came out")
	}
}

func TestHostProcessesAreNotSeenOrSignalled(t *testing.T) {
	h := newHome(t)
	self := fmt.Sprint(os.Getpid())
	h.attackOutside("stat /proc/" + self + ": ok")
	r := h.sh("ps -e -o pid= 2>/dev/null || ls /proc | grep '^[0-9]*$'").ok()
	if n := len(strings.Fields(r.out)); n > 6 {
		t.Errorf("%d processes seen inside:\n%s", n, r.out)
	}
	if os.Getpid() > 100 { // a number that is not taken inside
		h.attack("signal0 "+self+": ESRCH", "stat /proc/"+self+": ENOENT")
	}
}

func TestTwoSandboxesHaveNoProcessAndNoPrivateFileInCommon(t *testing.T) {
	h := newHome(t)
	h.during("echo secret > /tmp/first; echo secret > /dev/shm/first; sleep 778 & ", "kill -0 $!", func() {
		r := h.sh("ls -A /tmp /dev/shm; cat /proc/[0-9]*/cmdline | tr '\\0' ' '; kill -9 -1; true").ok()
		if strings.Contains(r.out, "first") || strings.Contains(r.out, "sleep 778") {
			t.Errorf("the second sees of the first:\n%s", r.out)
		}
	})
}

func TestKillingEverythingEndsTheSandboxAlone(t *testing.T) {
	h := newHome(t)
	for script, want := range map[string]int{
		"trap '' TERM; kill 0; exit 7":                7,
		"kill -9 0; sleep 5":                          137,
		"sleep 100 & kill -9 -1; wait; exit 8":        8, // all but the caller (kill(2))
		"setsid sleep 100 & trap '' TERM; kill -- -1": 0, // a shell's kill of all but itself
	} {
		if r := h.sh(script); r.code != want {
			t.Errorf("%q: exit status %d, want %d\n%s", script, r.code, want, r.err)
		}
	}
}

// escapes that a kernel lets an ordinary user try; EPERM and EACCES come from
// the system call filter.
var refusedCalls = []string{
	fmt.Sprintf("unshare %#x: EPERM", unix.CLONE_NEWUSER), fmt.Sprintf("unshare %#x: EPERM", unix.CLONE_NEWNS), fmt.Sprintf("unshare %#x: EPERM", unix.CLONE_NEWNET),
	fmt.Sprintf("clone %#x: EPERM", unix.CLONE_NEWUSER), fmt.Sprintf("clone %#x: EPERM", unix.CLONE_NEWUSER|unix.CLONE_NEWNET), "setns /proc/self/ns/net: EPERM",
	"mount /tmp: EPERM", "bindmount /tmp /run: EPERM", "remount /: EPERM", "umount /tmp: EPERM", "opentree /: EPERM", "chroot /tmp: EPERM",
	"ptrace 1: EPERM", "traceme: EPERM", "vmread 1: EPERM",
	"socket 17 3 0: EACCES", "socket 17 2 0x300: EACCES", "socket 2 3 1: EACCES", "socket 2 3 255: EACCES", "socket 10 3 58: EACCES", // packet, raw
	"socket 40 1 0: EACCES", "socket 40 2 0: EACCES", "socket 38 5 0: EACCES", "socket 1 1 0: ok", "socket 1 2 0: EACCES", // vsock, alg, unix
	"socket 16 3 0: ok", "socket 2 1 132: EACCES", "socket 44 2 0: EACCES", // route, sctp, xdp
	"io_uring: EPERM", "bpf: EPERM", "perf: EPERM", "userfaultfd: EPERM", "handle /: EPERM|EOPNOTSUPP", "corelimit: EPERM",
	"resave /proc/sys/kernel/core_pattern: EROFS|EACCES", "truncate /proc/sys/kernel/core_pattern: EROFS|EACCES", "resave /proc/sys/net/ipv4/ip_forward: EROFS|EACCES|EPERM",
	"write /proc/sysrq-trigger: EROFS|EACCES|ENOENT", "create /sys/fs/cgroup/x: EROFS|EACCES|EPERM", "write /proc/self/oom_score_adj: ok|EINVAL|EACCES",
}

func TestSystemCallsThatLeadOutAreRefused(t *testing.T) {
	newHome(t).attack(append(refusedCalls, allNetlink()...)...)
}

// allNetlink is every netlink protocol but ROUTE (linux/netlink.h).
func allNetlink() []string {
	var list []string
	for proto := 1; proto <= 22; proto++ {
		list = append(list, fmt.Sprintf("socket 16 3 %d: EACCES", proto))
	}
	return list
}

func TestTheCallersKeyringIsNotSeen(t *testing.T) {
	h := newHome(t)
	h.wrap = []string{"key=sallyport-e2e"}
	h.attackOutside("findkey sallyport-e2e: ok")
	h.attack("findkey sallyport-e2e: EPERM")
	// /proc/keys shows what its reader could use (keyrings(7)).
	if r := h.sh("cat /proc/keys 2>/dev/null; true").ok(); strings.Contains(r.out, "sallyport-e2e") {
		t.Errorf("inside:\n%s", r.out)
	}
}

// A core_pattern that is a pipe starts a program on the host; the kernel spares
// a limit of 1, and ignores one of 0 (core(5)). The machine's own setting stays
// as it is: it belongs to every namespace.
func TestACrashLeavesNoCore(t *testing.T) {
	h := newHome(t)
	r := h.sh("ulimit -c; ulimit -Hc; cat /proc/self/limits | grep core; kill -ABRT $$")
	if r.code != 134 || !strings.Contains(r.out, "Max core file size        1                    1") {
		t.Errorf("exit status %d, limits:\n%s", r.code, r.out)
	}
	if left, _ := filepath.Glob(h.work + "/*"); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

func TestNoCapabilityAndNoNewPrivileges(t *testing.T) {
	h := newHome(t)
	r := h.sh("grep -E '^(Cap|NoNewPrivs|Seccomp:|Groups|Uid)' /proc/self/status").ok()
	for _, want := range []string{"CapInh:\t0000000000000000", "CapPrm:\t0000000000000000", "CapEff:\t0000000000000000", "CapBnd:\t0000000000000000",
		"CapAmb:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2", fmt.Sprintf("Uid:\t%d", h.uid)} {
		if !strings.Contains(r.out, want) {
			t.Errorf("no %q in\n%s", want, r.out)
		}
	}
}

func TestOnlyTheEnvironmentAllowlistPasses(t *testing.T) {
	h := newHome(t)
	h.env = append(h.env, "SSH_AUTH_SOCK=/run/agent", "GITHUB_TOKEN=t", "AWS_SECRET_ACCESS_KEY=k", "DBUS_SESSION_BUS_ADDRESS=unix:path=/run/bus",
		"DISPLAY=:0", "LD_LIBRARY_PATH=/x", "XAUTHORITY=/x", "GPG_AGENT_INFO=/x", "LC_TOKEN=x", "LC_ALL=C.UTF-8", "TERM=vt100", "FOO=bar", "GOPATH=/go")
	names := map[string]string{}
	r := h.runWith([]string{"-e", "FOO", "-e", "BAR=b=c", "-e", "MISSING"}, "env", "-0").ok()
	for _, e := range strings.Split(strings.TrimSuffix(r.out, "\x00"), "\x00") {
		name, value, _ := strings.Cut(e, "=")
		names[name] = value
	}
	for name, want := range map[string]string{"FOO": "bar", "BAR": "b=c", "TERM": "vt100", "LC_ALL": "C.UTF-8", "HOME": h.dir, "PWD": h.work, "TMPDIR": "/tmp", "SALLYPORT": "1", "SALLYPORT_PROXY": "/run/sallyport/proxy.sock"} {
		if names[name] != want {
			t.Errorf("%s is %q, want %q", name, names[name], want)
		}
	}
	allowed := strings.Fields("FOO BAR TERM LC_ALL LANG HOME PATH PWD TMPDIR SALLYPORT SALLYPORT_PROXY HTTP_PROXY HTTPS_PROXY http_proxy https_proxy NO_PROXY no_proxy NODE_USE_ENV_PROXY")
	for _, name := range allowed {
		delete(names, name)
	}
	if len(names) > 0 {
		t.Errorf("passed besides: %v", names)
	}
}

func TestTheSummarySaysWhatIsRefusedWithoutARecord(t *testing.T) {
	h := newHome(t).rootless()
	h.write(".ssh/id", "KEY")
	file := filepath.Join(h.dir, "summary.json")
	r := h.runWith([]string{"--json-summary", file}, "cat", h.dir+"/.ssh/id").refused()
	if !strings.Contains(r.err, "not recorded") || !strings.Contains(r.err, "files:") {
		t.Errorf("the summary does not say that file denials are refused but not recorded:\n%s", r.err)
	}
	var sum struct {
		Exit        int
		NotRecorded []string `json:"not_recorded"`
	}
	b, _ := os.ReadFile(file)
	if err := json.Unmarshal(b, &sum); err != nil || sum.Exit != 1 || !strings.Contains(strings.Join(sum.NotRecorded, "\n"), "files:") {
		t.Errorf("--json-summary: %v: %s", err, b)
	}
}
