package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport"
	"github.com/sallyport/sallyport/internal/event"
)

// wrapHelper makes conditions for one program: a host that lacks something, a
// descriptor too many. Its arguments are UID GID CONDITION... -- PROGRAM ARG...
const wrapHelper = "wrap"

func init() { helpers[wrapHelper] = func() { os.Exit(wrap(os.Args[1:])) } }

// conditions change the process that will become the program, or its
// namespaces; they are applied in order.
var conditions = map[string]func(value string) error{
	"hide": func(dir string) error { // an empty directory in its place
		return inOwnMounts(func() error { return unix.Mount("none", dir, "tmpfs", unix.MS_RDONLY, "mode=755") })
	},
	"replace": func(value string) error { // TARGET:SOURCE
		target, source, _ := strings.Cut(value, ":")
		return inOwnMounts(func() error { return unix.Mount(source, target, "", unix.MS_BIND, "") })
	},
	// A limit of this user namespace (namespaces(7)): kernel.max_…_namespaces.
	"limit": func(value string) error {
		name, n, _ := strings.Cut(value, ":")
		return os.WriteFile("/proc/sys/user/"+name, []byte(n), 0)
	},
	// A kernel without nfnetlink answers EPROTONOSUPPORT (net/netlink/af_netlink.c).
	"refuse-netlink": func(protocol string) error { return refuseNetlink(uint32(atoi(protocol))) },
	"plant-fd": func(value string) error { // NUMBER:PATH
		n, path, _ := strings.Cut(value, ":")
		fd, err := unix.Open(path, unix.O_RDWR, 0)
		if err != nil || fd == atoi(n) { // there already
			return err
		}
		return unix.Dup3(fd, atoi(n), 0)
	},
	"remove-cwd": func(string) error {
		dir, err := os.Getwd()
		if err == nil {
			err = unix.Rmdir(dir)
		}
		return err
	},
	"close-fd": func(n string) error { return unix.Close(atoi(n)) },
	"path-fd": func(value string) error { // NUMBER:PATH, opened O_PATH
		n, path, _ := strings.Cut(value, ":")
		fd, err := unix.Open(path, unix.O_PATH, 0)
		if err != nil || fd == atoi(n) {
			return err
		}
		return unix.Dup3(fd, atoi(n), 0)
	},
	"key": func(name string) error { // in a session keyring of the caller's own
		if _, err := unix.KeyctlJoinSessionKeyring("e2e"); err != nil {
			return err
		}
		_, err := unix.AddKey("user", name, []byte("secret"), unix.KEY_SPEC_SESSION_KEYRING)
		return err
	},
}

func wrap(args []string) int {
	runtime.LockOSThread()
	for _, a := range args {
		if name, _, _ := strings.Cut(a, "="); name == "userns" && os.Getenv("SALLYPORT_E2E_INNER") == "" {
			return innerUserns()
		}
	}
	if err := wrapAndExec(args); err != nil {
		fmt.Fprintln(os.Stderr, "wrap:", err)
	}
	return 99
}

func wrapAndExec(args []string) error {
	uid, gid := atoi(args[0]), atoi(args[1])
	var program []string
	var late []func() error // as the user
	for i, a := range args[2:] {
		if a == "--" {
			program = args[3+i:]
			break
		}
		name, value, _ := strings.Cut(a, "=")
		apply, ok := conditions[name]
		lately, isLate := lateConditions[name]
		switch {
		case name == "userns":
		case isLate:
			late = append(late, func() error { return lately(value) })
		case !ok:
			return fmt.Errorf("unknown condition %s", name)
		case name == "key", name == "refuse-netlink", name == "close-fd":
			late = append(late, func() error { return apply(value) })
		default:
			if err := apply(value); err != nil {
				return fmt.Errorf("%s: %w", a, err)
			}
		}
	}
	keeper, err := keeperEnv(uid, gid)
	if err != nil {
		return err
	}
	if err := becomeOrdinary(uid, gid); err != nil {
		return err
	}
	for _, f := range late {
		if err := f(); err != nil {
			return err
		}
	}
	var env []string
	for _, e := range os.Environ() {
		if !strings.HasPrefix(e, helperEnv+"=") && !strings.HasPrefix(e, "SALLYPORT_E2E_INNER=") {
			env = append(env, e)
		}
	}
	return fmt.Errorf("execute %s: %w", program[0], syscall.Exec(program[0], program, append(env, keeper...)))
}

// tierEnv, set to trace, makes every test's sallyport start as by root: with a
// kernel side. That takes root, and a kernel that can.
const tierEnv = "SALLYPORT_E2E_TIER"

func (h *home) hasKeeper() bool { return os.Getenv(tierEnv) == "trace" && os.Getuid() == 0 && !h.lower }

// rootless has no keeper, whatever the tests are run at.
func (h *home) rootless() *home {
	h.lower = true
	return h
}

// ofKernel: a tier of those that take the kernel's programs. Which, the kernel says.
func ofKernel(tier string) bool {
	return tier == event.TierTrace.String() || tier == event.TierLSM.String()
}

func (h *home) inTier(tier string) bool {
	return tier == h.tier() || h.hasKeeper() && ofKernel(tier)
}

// tier is the one that an ordinary run has at least.
func (h *home) tier() string {
	if h.hasKeeper() {
		return "trace"
	}
	return "rootless"
}

func keeperEnv(uid, gid int) ([]string, error) {
	if os.Getenv(tierEnv) != "trace" || os.Getuid() != 0 || uid == 0 {
		return nil, nil
	}
	entry, err := sallyport.KeepKernel(uid, gid)
	return []string{entry}, err
}

// becomeOrdinary gives up user and capabilities, on this thread alone: it is
// the one that executes the program.
func becomeOrdinary(uid, gid int) error {
	if os.Getuid() == 0 && uid != 0 {
		if _, _, errno := unix.RawSyscall(unix.SYS_SETGROUPS, 0, 0, 0); errno != 0 {
			return fmt.Errorf("set groups: %w", errno)
		}
		if _, _, errno := unix.RawSyscall(unix.SYS_SETRESGID, uintptr(gid), uintptr(gid), uintptr(gid)); errno != 0 {
			return fmt.Errorf("set group: %w", errno)
		}
		if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, uintptr(uid), uintptr(uid), uintptr(uid)); errno != 0 {
			return fmt.Errorf("set user: %w", errno)
		}
	}
	if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); err != nil {
		return err
	}
	return unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0)
}

// innerUserns goes on in a user namespace of its own, so that its limits can be
// set.
func innerUserns() int {
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), "SALLYPORT_E2E_INNER=1")
	size, uid, gid := 1, os.Getuid(), os.Getgid()
	if uid == 0 {
		size = 65536
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWUSER, GidMappingsEnableSetgroups: uid == 0, Pdeathsig: syscall.SIGKILL,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: uid, HostID: uid, Size: size}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: gid, HostID: gid, Size: size}},
		AmbientCaps: []uintptr{unix.CAP_SYS_RESOURCE, unix.CAP_SYS_ADMIN},
	}
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		fmt.Fprintln(os.Stderr, "wrap: make a user namespace:", err)
		return 99
	}
	return cmd.ProcessState.ExitCode()
}

func inOwnMounts(f func() error) error {
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("unshare mounts: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	return f()
}

// refuseNetlink filters socket(AF_NETLINK, any, protocol).
func refuseNetlink(protocol uint32) error {
	const nr, arg0, arg2 = 0, 16, 32 // offsets in struct seccomp_data (linux/seccomp.h), low halves
	load := func(at uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: at}
	}
	unless := func(k uint32, skip uint8) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: k, Jf: skip}
	}
	filter := []unix.SockFilter{
		load(nr), unless(unix.SYS_SOCKET, 5),
		load(arg0), unless(unix.AF_NETLINK, 3),
		load(arg2), unless(protocol, 1),
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ERRNO | uint32(unix.EPROTONOSUPPORT)},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	prog := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, uintptr(unsafe.Pointer(&prog)))
	runtime.KeepAlive(filter)
	return known(errno)
}

// bwrapDirs are the directories that hide bubblewrap when they are empty.
func bwrapDirs() []string {
	var dirs []string
	for _, d := range []string{"/usr/bin", "/usr/local/bin", "/run/current-system/sw/bin"} {
		if _, err := os.Stat(filepath.Join(d, "bwrap")); err == nil {
			dirs = append(dirs, "hide="+d)
		}
	}
	return dirs
}
