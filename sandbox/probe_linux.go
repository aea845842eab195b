package sandbox

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"

	ll "github.com/landlock-lsm/go-landlock/landlock/syscall"
	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/internal/plan"
	"github.com/sallyport/sallyport/sandbox/stage2"
)

// bwrapPaths is where bubblewrap is looked for; never through PATH, which the
// payload may have written to.
var bwrapPaths = []string{"/usr/bin/bwrap", "/bin/bwrap", "/usr/local/bin/bwrap", "/run/current-system/sw/bin/bwrap"}

// LandlockABI gives the kernel's Landlock ABI (landlock_create_ruleset(2)), as
// far as we use it; 0 where there is none.
func LandlockABI() int {
	v, err := ll.LandlockGetABIVersion()
	if err != nil || v <= 0 {
		return 0
	}
	return min(v, stage2.LandlockMax)
}

// Probe finds out what a plan can count on.
func Probe() (plan.Capabilities, error) {
	c := plan.Capabilities{LandlockABI: LandlockABI(), CopySockets: canCopySockets()}
	path, err := bubblewrap()
	if err != nil {
		return c, err
	}
	c.Bwrap = path
	// Asked of the file, not by running it: 1 ms less, and its version says less
	// (distributions backport).
	binary, err := os.ReadFile(path)
	if err != nil {
		return c, fmt.Errorf("look at %s: %w", path, err)
	}
	c.Perms = bytes.Contains(binary, []byte("--perms"))
	c.DisableUserns = bytes.Contains(binary, []byte("--disable-userns"))
	return c, nil
}

// canCopySockets reports whether pidfd_getfd(2) can work on the payload: the
// kernel has it, no outer filter refuses it, and ptrace(2) is not switched off
// for everybody (Yama, Documentation/admin-guide/LSM/Yama.rst).
func canCopySockets() bool {
	scope, _ := readProc("/proc/sys/kernel/yama/ptrace_scope") // absent without Yama
	if strings.TrimSpace(string(scope)) == "3" {
		return false
	}
	pidfd, err := unix.PidfdOpen(os.Getpid(), 0)
	if err != nil {
		return false
	}
	defer unix.Close(pidfd)
	copied, err := unix.PidfdGetfd(pidfd, pidfd, 0)
	if err != nil {
		return false
	}
	unix.Close(copied)
	return true
}

// bubblewrap finds it, once.
var bubblewrap = sync.OnceValues(func() (string, error) { return findBwrap(bwrapPaths) })

func findBwrap(candidates []string) (string, error) {
	const hint = "install bubblewrap 0.4.1 or later (Debian, Ubuntu: apt-get install bubblewrap)"
	var problem error
	for _, p := range candidates {
		real, err := filepath.EvalSymlinks(p)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil {
			err = trusted(real)
		}
		if err == nil {
			return real, nil
		}
		problem = err
	}
	if problem != nil {
		return "", fail(hint, "find bubblewrap: %w", problem)
	}
	return "", fail(hint, "find bubblewrap: not at %s", strings.Join(candidates, ", "))
}

// trusted refuses a program that somebody other than root could have changed.
// In a user namespace in which root is not mapped, root shows as the overflow
// user (user_namespaces(7)).
func trusted(path string) error {
	for p := path; ; p = filepath.Dir(p) {
		fi, err := os.Lstat(p)
		if err != nil {
			return err
		}
		st := fi.Sys().(*syscall.Stat_t)
		if st.Uid != 0 && int(st.Uid) != overflowUID() {
			return fmt.Errorf("%s belongs to user %d, not to root", p, st.Uid)
		}
		if fi.Mode().Perm()&0o022 != 0 && fi.Mode()&fs.ModeSticky == 0 {
			return fmt.Errorf("%s can be written by others than root", p)
		}
		if p == "/" {
			return nil
		}
	}
}

func overflowUID() int {
	if rootMapped() {
		return 0
	}
	return 65534
}

// rootMapped reports whether the host's root, or that of the container that this
// namespace was made in, has a number here. Where the user is mapped to 0
// himself (unshare -r), his files look like root's, and root's do not.
func rootMapped() bool {
	b, err := readProc("/proc/self/uid_map")
	return err != nil || mapsRoot(string(b))
}

// mapsRoot reads a uid_map: inside, outside, count (user_namespaces(7)).
func mapsRoot(uidMap string) bool {
	for line := range strings.Lines(uidMap) {
		if f := strings.Fields(line); len(f) == 3 && f[1] == "0" {
			return true
		}
	}
	return false
}

// Nested refuses to begin where it cannot come to an end: in a sandbox of
// another run's.
func Nested() error {
	first, err := readProc("/proc/1/cmdline")
	if err != nil || !bytes.HasPrefix(first, []byte(plan.InitPath+"\x00")) {
		return nil
	}
	return fail("run the command as it is: the boundary is there already, and another cannot be put up in it",
		"put up a boundary: this is a sandbox of sallyport's already")
}

// LimitHint is for errors that a limit of this process's user stands behind.
func LimitHint(err error) string {
	switch {
	case errors.Is(err, syscall.EMFILE):
		return "raise the limit of open files: ulimit -n 256"
	case errors.Is(err, syscall.EAGAIN):
		return "raise the limit of the user's processes: ulimit -u 1000"
	case errors.Is(err, syscall.ENOMEM):
		return "raise the limit of memory (ulimit -v), or free some"
	case errors.Is(err, syscall.EFBIG):
		return "raise the limit of a file's size: ulimit -f unlimited"
	}
	return ""
}

// explainNamespaces turns the failure to start stage 1 into advice.
func explainNamespaces(err error) error {
	hint := namespaceHint()
	switch obstacles := len(NamespaceObstacles()); {
	case LimitHint(err) != "":
		hint = LimitHint(err)
	case obstacles > 0:
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EUSERS):
		hint = "the limit on namespaces (user.max_*_namespaces) of a user namespace around this one is reached: " +
			"run outside of that container, or let it have more"
	case errors.Is(err, syscall.EPERM), errors.Is(err, syscall.ENOSYS):
		hint = "what confines this process forbids it: a container's system call filter (docker run --security-opt seccomp=unconfined), " +
			"another sandbox, chroot, or a security module"
	}
	return fail(hint, "make user, pid, mount and network namespaces: %w", err)
}

// explainStage1 says what to do about an error in or around stage 1.
func explainStage1(err error) error {
	var known *Error
	hint := namespaceHint()
	switch {
	case errors.As(err, &known):
		hint = known.Hint
	case strings.Contains(err.Error(), "socket of nftables"):
		hint = nftHint
	case errors.Is(err, syscall.EDQUOT):
		hint = "this user has too many keys, one for each run (keyrings(7)); as root: sysctl -w kernel.keys.maxkeys=2000 kernel.keys.maxbytes=200000"
	case strings.Contains(err.Error(), "/proc/self/") && errors.Is(err, syscall.EACCES):
		// The files in /proc of a process that runs such a program are root's.
		hint = "the binary must be readable for the user who runs it"
	}
	return fail(hint, "set up the sandbox: %w", err)
}

// Obstacle is a setting that keeps an ordinary user from making namespaces.
type Obstacle struct {
	Setting string // name and value
	Cure    string
}

// NamespaceObstacles looks for every setting known to forbid user namespaces.
func NamespaceObstacles() []Obstacle {
	var out []Obstacle
	for _, k := range []struct{ name, bad, cure string }{
		{"kernel.unprivileged_userns_clone", "0", "sysctl -w kernel.unprivileged_userns_clone=1"},
		{"user.max_user_namespaces", "0", "sysctl -w user.max_user_namespaces=15000"},
		{"user.max_net_namespaces", "0", "sysctl -w user.max_net_namespaces=15000"},
		{"user.max_pid_namespaces", "0", "sysctl -w user.max_pid_namespaces=15000"},
		{"user.max_mnt_namespaces", "0", "sysctl -w user.max_mnt_namespaces=15000"},
		{"kernel.apparmor_restrict_unprivileged_userns", "1", "install the AppArmor profile for sallyport ('make apparmor' in its source tree)"},
	} {
		b, err := os.ReadFile("/proc/sys/" + strings.ReplaceAll(k.name, ".", "/"))
		if err == nil && strings.TrimSpace(string(b)) == k.bad {
			out = append(out, Obstacle{k.name + "=" + k.bad, k.cure})
		}
	}
	return out
}

func namespaceHint() string {
	if o := NamespaceObstacles(); len(o) > 0 {
		return fmt.Sprintf("%s forbids it; as root: %s", o[0].Setting, o[0].Cure)
	}
	return "'sallyport doctor' says what this machine lacks"
}

// bwrapHint gives advice for what bubblewrap says when it cannot go on.
func bwrapHint(said string) string {
	switch {
	case strings.Contains(said, "Unknown option"):
		return "this bubblewrap is too old: 0.4.1 is needed"
	case strings.Contains(said, "namespace"), strings.Contains(said, "uid map"):
		return namespaceHint()
	case strings.Contains(said, "Can't find source path"), strings.Contains(said, "Can't mkdir"), strings.Contains(said, "Can't create"):
		return "a path of the policy changed or cannot be mounted on; 'sallyport run --dry-run' shows all of them"
	}
	return "'sallyport doctor' says what this machine lacks"
}
