package feature

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// tryRules loads an nftables ruleset into a network namespace of its own; an
// ordinary user gets one through a user namespace.
func tryRules(rules string) error {
	nft, err := findNFT()
	if err != nil {
		return err
	}
	attr := &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	if uid, gid := os.Geteuid(), os.Getegid(); uid != 0 {
		attr.Cloneflags |= syscall.CLONE_NEWUSER
		attr.UidMappings = []syscall.SysProcIDMap{{HostID: uid, Size: 1}}
		attr.GidMappings = []syscall.SysProcIDMap{{HostID: gid, Size: 1}}
	}
	cmd := exec.Command(nft, "-f", "-")
	cmd.Stdin = strings.NewReader(rules)
	cmd.SysProcAttr = attr
	err = outcome(cmd)
	if os.Geteuid() != 0 && errors.Is(err, unix.EPERM) {
		return fmt.Errorf("%w, where user namespaces are forbidden", ErrNeedsRoot)
	}
	return err
}

// findNFT looks where distributions put nft: an ordinary user's PATH may lack it.
func findNFT() (string, error) {
	for _, dir := range append(filepath.SplitList(os.Getenv("PATH")), "/usr/sbin", "/sbin") {
		if path, err := exec.LookPath(filepath.Join(dir, "nft")); err == nil {
			return path, nil
		}
	}
	return "", missing("nft is not installed")
}

func probeNFTProxy() (string, error) {
	return "", tryRules(`
table inet probe {
	chain c {
		type filter hook prerouting priority mangle;
		meta nfproto ipv4 meta l4proto tcp tproxy ip to 198.18.0.1:1 meta mark set 1
		meta nfproto ipv6 meta l4proto tcp tproxy ip6 to [fd00::1]:1 meta mark set 1
	}
}
`)
}

// inOutput is a ruleset with one rule.
func inOutput(rule string) string {
	return "table inet probe {\nchain c {\ntype filter hook output priority 0;\n" + rule + "\n}\n}\n"
}

func probeNFTLog() (string, error) {
	return "", tryRules(inOutput("log group 1 reject"))
}

func probeNFTCgroup() (detail string, err error) {
	group, err := makeCgroup()
	if err != nil {
		return "", err
	}
	defer group.remove()
	rule := fmt.Sprintf("socket cgroupv2 level %d %q drop", strings.Count(group.path, "/")+1, group.path)
	return "", tryRules(inOutput(rule))
}

// cgroup is a cgroup v2 directory of our own.
type cgroup struct{ mount, path string }

// cgroupMount is where cgroup v2 is mounted: hybrid systems have it below the
// controllers of v1.
func cgroupMount() (string, error) {
	for _, mount := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified"} {
		var fs unix.Statfs_t
		if unix.Statfs(mount, &fs) == nil && fs.Type == unix.CGROUP2_SUPER_MAGIC {
			return mount, nil
		}
	}
	return "", missing("no cgroup v2 hierarchy is mounted")
}

// makeCgroup makes one; nftables wants the path from /sys/fs/cgroup.
func makeCgroup() (cgroup, error) {
	mount, err := cgroupMount()
	if err != nil {
		return cgroup{}, err
	}
	dir, err := os.MkdirTemp(mount, "probe-")
	if err != nil {
		return cgroup{}, fmt.Errorf("make cgroup: %w", err)
	}
	path, err := filepath.Rel("/sys/fs/cgroup", dir)
	return cgroup{mount, path}, err
}

func (c cgroup) dir() string   { return filepath.Join("/sys/fs/cgroup", c.path) }
func (c cgroup) remove() error { return os.Remove(c.dir()) }

func probeCgroupKill() (string, error) {
	group, err := makeCgroup()
	if err != nil {
		return "", err
	}
	defer group.remove()
	err = os.WriteFile(filepath.Join(group.dir(), "cgroup.kill"), []byte("1"), 0)
	return "", verdict("write cgroup.kill", err, unix.ENOENT, unix.EACCES, unix.EPERM)
}

// probeCgroupLimits asks the root of cgroup v2, wherever that is mounted: what
// version 1 has is not there.
func probeCgroupLimits() (string, error) {
	group, err := cgroupMount()
	if err != nil {
		return "", err
	}
	has, err := os.ReadFile(filepath.Join(group, "cgroup.controllers"))
	if err != nil {
		return "", fmt.Errorf("read controllers: %w", err)
	}
	for _, controller := range []string{"memory", "pids", "cpu"} {
		if !slices.Contains(strings.Fields(string(has)), controller) {
			return "", missing("cgroup v2 has no controller %s", controller)
		}
	}
	return "", nil
}
