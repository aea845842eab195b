package sandbox

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/internal/plan"
)

// stage1Name is argv[0] of stage 1.
const stage1Name = "sallyport: stage 1"

// Init turns this process into stage 1 or stage 2 if it was started as one;
// then it does not return. Every program that calls Start calls it first in
// main.
func Init() {
	switch {
	case os.Args[0] == stage1Name:
		stage1()
	case os.Args[0] == plan.InitPath && os.Getpid() == 1:
		stage2()
	}
}

// stage1 runs in new user, pid, mount and network namespaces with the
// capabilities to set them up. It hands the network's sockets out, gives its
// capabilities up and becomes bubblewrap.
func stage1() {
	control := os.NewFile(plan.FDControl, "control")
	unix.CloseOnExec(plan.FDControl)
	unix.CloseOnExec(plan.FDLaunch)
	// The caller's own descriptors are not for the sandbox.
	closeFrom(plan.FDFirstFile + plan.OwnFiles)
	if err := ownProc(); err != nil {
		stage1Fail(control, err)
	}
	if err := stage1Network(control); err != nil {
		stage1Fail(control, err)
	}
	if err := become(control); err != nil {
		stage1Fail(control, err)
	}
}

func stage1Fail(control *os.File, err error) {
	r := stage1Report{Err: err.Error()}
	var e *Error
	if errors.As(err, &e) {
		r.Hint = e.Hint
	}
	if b, err := json.Marshal(r); err == nil {
		_, _ = control.Write(b) // nobody is left to tell if this fails
	}
	os.Exit(125)
}

// ownProc mounts a /proc that has the pids of this namespace: bubblewrap looks
// for its child there.
func ownProc() error {
	if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mount proc: %w", err)
	}
	return nil
}

func stage1Network(control *os.File) error {
	socks, err := setupNetwork(plan.DefaultNetwork())
	if err != nil {
		return err
	}
	report, err := json.Marshal(stage1Report{NoPing: errorText(socks.PingErr)})
	if err != nil {
		return fmt.Errorf("encode report: %w", err)
	}
	diag, err := openDiag()
	if err != nil {
		return err
	}
	files := append([]*os.File{diag}, socks.files()...)
	var fds []int
	for _, f := range files {
		fds = append(fds, int(f.Fd()))
	}
	if err := unix.Sendmsg(int(control.Fd()), report, unix.UnixRights(fds...), nil, 0); err != nil {
		return fmt.Errorf("hand out sockets: %w", err)
	}
	for _, f := range files {
		f.Close()
	}
	return nil
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// stageEnv is the environment of every stage, and of bubblewrap, whose own
// stays readable in /proc: nothing of the user's. The stages are short and do
// one thing at a time: a runtime with one processor and no garbage collection
// starts and ends faster.
var stageEnv = []string{"GOMAXPROCS=1", "GOGC=off"}

// become waits for the plan and replaces this process with bubblewrap.
func become(control *os.File) error {
	// Keyring, capabilities and death signal are a thread's, and this one
	// executes. Not locked before: every hand-over to and from a locked thread is
	// a switch. A supervisor that dies before this is seen below.
	runtime.LockOSThread()
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0); err != nil {
		return fmt.Errorf("set death signal: %w", err)
	}
	// A new, empty session keyring (keyctl(2)): the caller's is out of reach.
	// ENOSYS: a kernel without keyrings.
	if _, _, errno := unix.Syscall(unix.SYS_KEYCTL, unix.KEYCTL_JOIN_SESSION_KEYRING, 0, 0); errno == unix.EDQUOT {
		return fail("too many runs at once for this user's keys (keyrings(7)); as root: sysctl -w kernel.keys.maxkeys=2000 kernel.keys.maxbytes=200000",
			"join a new session keyring: %w", errno)
	} else if errno != 0 && errno != unix.ENOSYS {
		return fmt.Errorf("join a new session keyring: %w", errno)
	}
	var one [1]byte
	if _, err := io.ReadFull(control, one[:]); err != nil {
		os.Exit(125) // the supervisor has gone, or gave up
	}
	var l launch
	data, err := io.ReadAll(os.NewFile(plan.FDLaunch, "launch"))
	if err != nil {
		return fmt.Errorf("read launch: %w", err)
	}
	if err := json.Unmarshal(data, &l); err != nil {
		return fmt.Errorf("read launch: %w", err)
	}
	limitCore()
	if err := dropCapabilities(); err != nil {
		return err
	}
	argv := []string{"bwrap", "--args", fmt.Sprint(plan.FDArgs), plan.InitPath}
	return fmt.Errorf("execute %s: %w", l.Bwrap, syscall.Exec(l.Bwrap, argv, stageEnv))
}

// limitCore keeps the payload's memory from a core_pattern that is a pipe: it
// ignores a limit of 0, but not of 1 (fs/coredump.c, since 2.6.32). Where the
// hard limit is already 0 it cannot be raised to 1, and stays.
func limitCore() {
	one := unix.Rlimit{Cur: 1, Max: 1}
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &one); err != nil {
		_ = unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{})
	}
}

// dropCapabilities gives up all power over the network namespace, on this
// thread, which is the one that executes bubblewrap. bubblewrap refuses to run
// with ambient capabilities.
func dropCapabilities() error {
	if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); err != nil {
		return fmt.Errorf("clear ambient capabilities: %w", err)
	}
	if os.Geteuid() == 0 {
		return dropAsRoot()
	}
	return keepCapabilities(0)
}

// dropAsRoot is for user 0, who would gain all capabilities again by executing:
// SECBIT_NOROOT (capabilities(7)) prevents that. One is left for bubblewrap to
// drop: a user namespace into which user 0 is mapped is made only by who has
// CAP_SETFCAP (user_namespaces(7), Linux 5.12).
func dropAsRoot() error {
	const bits = 1<<0 | 1<<1 // SECBIT_NOROOT and its lock (linux/securebits.h)
	if err := unix.Prctl(unix.PR_SET_SECUREBITS, bits, 0, 0, 0); err != nil {
		return fmt.Errorf("set securebits: %w", err)
	}
	if err := keepCapabilities(1 << unix.CAP_SETFCAP); err != nil {
		return err
	}
	if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_RAISE, unix.CAP_SETFCAP, 0, 0); err != nil {
		return fmt.Errorf("keep the capability to map user 0: %w", err)
	}
	return nil
}

// keepCapabilities drops all but some of the first 32.
func keepCapabilities(set uint32) error {
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	data := [2]unix.CapUserData{{Effective: set, Permitted: set, Inheritable: set}}
	if err := unix.Capset(&hdr, &data[0]); err != nil {
		return fmt.Errorf("drop capabilities: %w", err)
	}
	return nil
}
