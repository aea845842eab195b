package feature

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

var probes = map[Name]func() (string, error){
	Userns:        probeUserns,
	Cgroup2:       probeCgroup2,
	Delegation:    probeDelegation,
	Bwrap:         probeBwrap,
	Landlock:      probeLandlock,
	SeccompNotify: probeSeccompNotify,
	PidfdGetfd:    probePidfdGetfd,
	Openat2:       probeOpenat2,
	CloseRange:    probeCloseRange,
	CgroupKill:    probeCgroupKill,
	CgroupLimits:  probeCgroupLimits,
	MPTCP:         probeMPTCP,
	NFTProxy:      probeNFTProxy,
	NFTLog:        probeNFTLog,
	NFTCgroup:     probeNFTCgroup,
	CgroupConnect: probeCgroupConnect,
	CgroupUnix:    probeCgroupUnix,
	RingBuffer:    probeRingBuffer,
	BPFTypedTrace: probeBPFTypedTrace,
	BPFExit:       probeBPFExit,
	BPFLSM:        probeBPFLSM,
	BPFLSMUserns:  probeBPFLSMUserns,
}

// Probe finds out whether the running system has a feature. An error that is
// ErrMissing is a conclusive no; any other means that it could not tell.
func Probe(name Name) (detail string, err error) {
	f, ok := Find(name)
	probe := probes[name]
	if !ok || probe == nil {
		return "", fmt.Errorf("no probe for feature %q", name)
	}
	if f.Root && os.Geteuid() != 0 {
		return "", ErrNeedsRoot
	}
	return probe()
}

// Running says which test VM this is, if any, and its kernel's version.
func Running() (Guest, Version, error) {
	cmdline, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return Guest{}, Version{}, fmt.Errorf("read kernel command line: %w", err)
	}
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return Guest{}, Version{}, fmt.Errorf("uname: %w", err)
	}
	v, err := ParseVersion(unix.ByteSliceToString(u.Release[:]))
	return ParseGuest(os.Getenv, string(cmdline)), v, err
}

// ordinaryUser is the first human user of every distribution that is tested.
const ordinaryUser = 1000

// tryAsUser runs a program as an ordinary user and gives its last words as the reason.
func tryAsUser(argv ...string) error {
	path, err := exec.LookPath(argv[0])
	if err != nil {
		return missing("%s is not installed", argv[0])
	}
	cmd := exec.Command(path, argv[1:]...)
	cmd.Dir = "/"
	if os.Geteuid() == 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: ordinaryUser, Gid: ordinaryUser}}
	}
	return outcome(cmd)
}

// outcome runs a probe's program: a refusal is a conclusive no, a failure to start is not.
func outcome(cmd *exec.Cmd) error {
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &exit):
		return missing("%s", firstLine(string(out)))
	}
	return fmt.Errorf("run %s: %w", cmd.Args[0], err)
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(s), "\n")
	return line
}

// probeUserns asks for power inside, since AppArmor may grant the namespace and
// take its capabilities away (Ubuntu since 23.10).
func probeUserns() (string, error) {
	return "", tryAsUser("unshare", "--user", "--map-root-user", "--net", "ip", "link", "set", "lo", "up")
}

var bwrapVersion = regexp.MustCompile(`[0-9.]+`)

func probeBwrap() (string, error) {
	err := tryAsUser("bwrap", "--unshare-all", "--ro-bind", "/", "/", "--proc", "/proc", "--dev", "/dev", "true")
	if err != nil {
		return "", err
	}
	out, err := exec.Command("bwrap", "--version").Output()
	return bwrapVersion.FindString(string(out)), err
}

func probeCgroup2() (string, error) {
	var fs unix.Statfs_t
	if err := unix.Statfs("/sys/fs/cgroup", &fs); err != nil {
		return "", fmt.Errorf("statfs /sys/fs/cgroup: %w", err)
	}
	if fs.Type != unix.CGROUP2_SUPER_MAGIC {
		return "", missing("/sys/fs/cgroup is of type %#x", fs.Type)
	}
	return "", nil
}

// probeDelegation asks the user's service manager for a unit with a subtree of
// its own and makes a cgroup there.
func probeDelegation() (string, error) {
	const script = `d=/sys/fs/cgroup$(sed -n 's/^0:://p' /proc/self/cgroup); mkdir "$d/probe" && rmdir "$d/probe"`
	argv := []string{"systemd-run", "--user", "--quiet", "--pipe", "--wait", "--property=Delegate=yes", "sh", "-c", script}
	runtime := fmt.Sprintf("XDG_RUNTIME_DIR=/run/user/%d", userID())
	return "", tryAsUser(append([]string{"env", runtime}, argv...)...)
}

func userID() int {
	if uid := os.Geteuid(); uid != 0 {
		return uid
	}
	return ordinaryUser
}
