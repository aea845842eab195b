package stage2

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/internal/plan/inside"
)

// initProcess is stage 2: process 1 of the sandbox. It trusts nothing inside
// and is trusted by nothing outside: all it can do is start the payload, pass
// signals on and say how the payload ended.
type initProcess struct {
	control *os.File
	in      *json.Decoder
	out     *json.Encoder
	config  Config
	pty     *pty
	payload atomic.Int64 // its process, once there is one
	rights  *Rights      // what in reads
	sending sync.Mutex   // of out
	joined  joiners
	ice     freezer
}

// init turns this process into stage 2 if it was started as that; then it does
// not return.
func init() {
	if os.Args[0] == inside.InitPath && os.Getpid() == 1 {
		run()
	}
}

// Handshake is the errno that stage 2 wants for its first refused call: it has
// no other meaning there.
const Handshake = unix.ECANCELED

// sigsetSize is that of the kernel's.
const sigsetSize = 8

// run never returns.
func run() {
	// Not dumpable (prctl(2)): /proc/1/{environ,mem,fd,root} are out of the
	// payload's reach, ptrace too.
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		os.Exit(125)
	}
	keepFrom(3)
	defaultSignals()
	control := os.NewFile(inside.FDInit, "control")
	rights := NewRights(control)
	p := &initProcess{control: control, rights: rights, in: json.NewDecoder(rights), out: json.NewEncoder(control),
		joined: newJoiners()}
	if err := p.run(); err != nil {
		p.fail(err)
	}
	os.Exit(0)
}

func (p *initProcess) fail(err error) {
	m := Message{Err: err.Error()}
	var e *Error
	if errors.As(err, &e) {
		m.Hint, m.Code = e.Hint, e.Status
	}
	_ = p.say(m) // nobody is left to tell if this fails
	os.Exit(125)
}

func (p *initProcess) run() error {
	if err := p.in.Decode(&p.config); err != nil {
		os.Exit(125) // the supervisor has gone, or gave up
	}
	if err := unix.Dup3(inside.FDStderr, 2, 0); err != nil {
		return fmt.Errorf("set standard error: %w", err)
	}
	if err := p.config.Canary.prove(); err != nil {
		return fmt.Errorf("canary: %w", err)
	}
	if err := p.ready(); err != nil {
		return err
	}
	early := p.awaitGo()
	pid, err := p.start()
	if err != nil {
		return err
	}
	p.payload.Store(int64(pid))
	debug.SetGCPercent(100) // off until here (stageEnv); from now on it may live long
	if err := p.say(Message{PID: pid}); err != nil {
		return err
	}
	go p.end(pid)
	go p.obey(early)
	p.joined.serve() // only this thread is confined, and so are those that it starts
	return nil
}

// end says how the payload ended, and ends the sandbox with it.
func (p *initProcess) end(payload int) {
	if err := p.say(Message{Exit: p.reap(payload)}); err != nil {
		os.Exit(125)
	}
	os.Exit(0)
}

func (p *initProcess) say(m Message) error {
	p.sending.Lock()
	defer p.sending.Unlock()
	return p.out.Encode(m)
}

// ready says that the payload can start. The proxy's unix socket goes with it
// and the payload's terminal, if it is to have one: without them there is no
// payload.
func (p *initProcess) ready() error {
	proxy, err := listenProxy(inside.ProxyPath)
	if err != nil {
		return err
	}
	defer unix.Close(proxy)
	if p.config.PTY == nil {
		return SendWith(p.control, Message{Ready: true}, proxy)
	}
	pty, master, err := openPTY(p.config.PTY)
	if err != nil {
		return fail("give it pipes instead: sallyport run -- COMMAND </dev/null 2>&1 | cat", "make a terminal for the command: %w", err)
	}
	defer unix.Close(master)
	p.pty = pty
	return SendWith(p.control, Message{Ready: true}, proxy, master)
}

// listenProxy listens on a file of the sandbox's own, which only its user may
// connect to and which goes with it.
func listenProxy(path string) (int, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("open the proxy's unix socket: %w", err)
	}
	if err = unix.Bind(fd, &unix.SockaddrUnix{Name: path}); err == nil {
		err = unix.Chmod(path, 0o600)
	}
	if err == nil {
		err = unix.Listen(fd, unix.SOMAXCONN)
	}
	if err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("listen on %s: %w", path, err)
	}
	return fd, nil
}

// start confines this thread and starts the payload from it. Both Landlock and
// seccomp are inherited and can only be tightened.
func (p *initProcess) start() (int, error) {
	runtime.LockOSThread() // for good: it is confined from now on
	if err := os.Chdir(string(p.config.Dir)); err != nil {
		return 0, fail("name a directory that the sandbox can see: --chdir DIR", "enter working directory: %w", err)
	}
	if err := ownPath(p.config.Env); err != nil {
		return 0, err
	}
	exe, err := lookPath(p.config.Argv[0])
	if err != nil {
		return 0, err
	}
	if err := restrictWrites(p.config.Landlock); err != nil {
		return 0, err
	}
	if err := p.filter(); err != nil {
		return 0, err
	}
	pid, err := syscall.ForkExec(exe, p.config.Argv, &syscall.ProcAttr{
		Env:   p.config.Env,
		Files: []uintptr{0, 1, 2},
		Sys:   p.pty.attributes(p.config.PTY),
	})
	if err != nil {
		return 0, &Error{Err: fmt.Errorf("execute %s: %w", exe, err), Status: 126}
	}
	return pid, nil
}

// filter installs the system call filter, hands its listener to the supervisor
// and proves that it answers: no copy of the listener is left in the sandbox
// when the payload starts.
func (p *initProcess) filter() error {
	const listener = unix.SECCOMP_FILTER_FLAG_NEW_LISTENER
	killable := true
	fd, err := InstallFilter(p.config.Filter, listener|unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV)
	if errors.Is(err, unix.EINVAL) {
		killable = false
		fd, err = InstallFilter(p.config.Filter, listener)
	}
	if err != nil {
		return err
	}
	m, err := json.Marshal(Message{Listener: &Listener{Killable: killable}})
	if err != nil {
		return fmt.Errorf("encode message: %w", err)
	}
	if err := unix.Sendmsg(inside.FDInit, m, unix.UnixRights(fd), nil, 0); err != nil {
		return fmt.Errorf("hand out the seccomp listener: %w", err)
	}
	unix.Close(fd)
	if _, _, errno := unix.Syscall(unix.SYS_SOCKET, unix.AF_UNSPEC, 0, 0); errno != Handshake {
		return fmt.Errorf("seccomp: the supervisor answers %w", errno)
	}
	return nil
}

// ownPath makes the payload's PATH this process's.
func ownPath(env []string) error {
	for _, e := range env {
		if path, ok := strings.CutPrefix(e, "PATH="); ok {
			return os.Setenv("PATH", path)
		}
	}
	return nil
}

// lookPath finds the payload's program as it is inside.
func lookPath(name string) (string, error) {
	exe, err := exec.LookPath(name)
	switch {
	case err == nil, errors.Is(err, exec.ErrDot):
		return exe, nil
	case errors.Is(err, os.ErrPermission), errors.Is(err, syscall.EISDIR):
		return "", &Error{Err: fmt.Errorf("execute %s: %w", name, errors.Unwrap(err)), Status: 126,
			Hint: "name a file that can be executed and that the policy does not hide"}
	default:
		return "", &Error{Err: fmt.Errorf("execute %s: not found in the sandbox", name), Status: 127,
			Hint: "/tmp and /run are private to the sandbox; see 'sallyport run --dry-run' for what it sees"}
	}
}

// command reads the next command, and ends the sandbox the moment the supervisor
// has gone: its death signal alone is not enough, it is set by bubblewrap some
// time after the process is made.
func (p *initProcess) command() Command {
	var c Command
	if err := p.in.Decode(&c); err != nil {
		os.Exit(125)
	}
	return c
}

// awaitGo returns when the payload may start, with what else has been told by
// then.
func (p *initProcess) awaitGo() (early []Command) {
	for {
		c := p.command()
		if c.Go {
			return early
		}
		early = append(early, c)
	}
}

// obey passes signals to the payload's process group, and more.
func (p *initProcess) obey(early []Command) {
	for _, c := range early {
		p.perform(c, int(p.payload.Load()))
	}
	for {
		p.perform(p.command(), int(p.payload.Load()))
	}
}

// defaultSignals takes the handlers of all signals away, which are the
// runtime's. For process 1 the kernel then ignores all but SIGKILL and SIGSTOP
// of its namespace's creator (pid_namespaces(7)), and the payload, which
// would inherit an ignored signal, gets defaults.
func defaultSignals() {
	for sig := uintptr(1); sig <= 64; sig++ {
		// EINVAL for those that cannot have a handler.
		_, _, _ = syscall.RawSyscall6(unix.SYS_RT_SIGACTION, sig, uintptr(unsafe.Pointer(new([4]uintptr))), 0, sigsetSize, 0, 0) // struct sigaction, SIG_DFL
	}
}

// perform does what can only be done to a payload that is there.
func (p *initProcess) perform(c Command, pid int) {
	switch {
	case pid == 0:
	case c.Freeze:
		p.ice.freeze(pid, &p.joined.mu)
		_ = p.say(Message{Frozen: true}) // nobody is left to tell if this fails
	case c.Thaw:
		for _, held := range p.ice.thaw() {
			p.perform(held, pid)
		}
	case p.ice.depth > 0 && c.Signal != int(unix.SIGKILL):
		p.ice.held = append(p.ice.held, c)
	case c.Exec != nil:
		p.join(c.Exec)
	case c.Of != 0:
		p.joined.signal(c.Of, unix.Signal(c.Signal))
	case c.Signal != 0:
		_ = unix.Kill(-pid, unix.Signal(c.Signal)) // ESRCH: it has just ended
	case c.Continue:
		if p.pty != nil {
			p.pty.foreground(pid, c.Foreground, c.Claim)
		}
		_ = unix.Kill(-pid, unix.SIGCONT)
	}
}

// reap waits for every child that falls to process 1 until the payload itself
// has ended, and says when it is stopped.
func (p *initProcess) reap(payload int) *ExitStatus {
	for {
		var ws unix.WaitStatus
		pid, err := unix.Wait4(-1, &ws, unix.WUNTRACED, nil)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return &ExitStatus{Code: 125}
		}
		if pid != payload {
			p.joinedEnded(pid, ws)
			continue
		}
		if ws.Stopped() {
			if ws.StopSignal() == unix.SIGSTOP && p.ice.swallow.CompareAndSwap(true, false) {
				continue
			}
			_ = p.say(Message{Stopped: int(ws.StopSignal())}) // nobody is left to tell if this fails
			continue
		}
		return exitStatus(ws)
	}
}

func exitStatus(ws unix.WaitStatus) *ExitStatus {
	if ws.Signaled() {
		return &ExitStatus{Code: 128 + int(ws.Signal()), Signal: int(ws.Signal())}
	}
	return &ExitStatus{Code: ws.ExitStatus()}
}
