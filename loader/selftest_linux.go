package loader

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/internal/cgroup"
	"github.com/sallyport/sallyport/internal/event"
)

// Finding says what became of one program in a self-test.
type Finding struct {
	Program, Purpose string
	Since            string     // the first Linux that can have it
	Tier             event.Tier // the one that it is needed for, if any
	State            State
	Err              error // why not, if State is not Works
}

// State is what is known of a program. The zero value is nothing.
type State uint8

const (
	Untested    State = iota // could not be found out
	Works                    // loaded, attached, and did what it is there for
	Unsupported              // the kernel has not got it
	Broken                   // attached, and did not do it
)

func (s State) String() string {
	return [...]string{"could not be tested", "works", "unsupported", "broken"}[s]
}

// selfTestName is the first argument of the process that provokes.
const selfTestName = "sallyport-loader-self-test"

// noIPv6 stands among the programs that took notice.
const noIPv6 = "no IPv6"

// Init must be called first in main: SelfTest starts the same binary.
func Init() {
	if len(os.Args) > 0 && os.Args[0] == selfTestName {
		fmt.Println(provoke(len(os.Args) > 1))
		os.Exit(0)
	}
}

// SelfTest loads and attaches everything to a new cgroup below parent, provokes
// every program there, and takes it all away again. Nothing it does leaves the
// machine.
func SelfTest(ctx context.Context, parent string) ([]Finding, error) {
	g, err := cgroup.Make(parent, fmt.Sprintf("self-test-%d", os.Getpid()))
	if err != nil {
		return nil, fmt.Errorf("test the kernel: %w", err)
	}
	defer func() { g.Kill(time.Second); g.Remove() }()
	l, err := Load(Options{Cgroup: g.Dir})
	if err != nil {
		return judgeFailure(err), nil
	}
	defer l.Close()
	return l.SelfTest(ctx)
}

// SelfTest provokes every program of a Loader that nobody reads yet, in a
// sandbox of its own, which it takes away again.
func (l *Loader) SelfTest(ctx context.Context) ([]Finding, error) {
	hits, err := l.provoked(ctx, l.opts.Cgroup, selfTestName)
	if err != nil {
		return nil, fmt.Errorf("test the kernel: %w", err)
	}
	var out []Finding
	for _, p := range programs {
		f := findingOf(p)
		switch why := l.missing[p.name]; {
		case errors.Is(why, ErrMissing):
			f.State, f.Err = Unsupported, why
		case why != nil:
			f.Err = why
		case hits[p.name]:
			f.State = Works
		case hits[noIPv6] && (p.name == "connect6" || p.name == "sendmsg6"):
			f.Err = errNoIPv6
		default:
			f.State, f.Err = Broken, errors.New("attached, and did nothing")
		}
		out = append(out, f)
	}
	return out, nil
}

// Tier is what a self-test has proven, and why it is not the next one.
func Tier(list []Finding) (event.Tier, error) {
	tier, why := event.TierLSM, error(nil)
	for _, f := range list {
		if f.Tier == event.TierNone || f.Tier > tier || f.State == Works || f.Err == nil || f.Err == errNoIPv6 {
			continue
		}
		tier, why = f.Tier-1, fmt.Errorf("program %s, which %s, %s: %w", f.Program, f.Purpose, f.State, f.Err)
	}
	return tier, why
}

var errNoIPv6 = errors.New("this machine has no IPv6")

func findingOf(p program) Finding {
	return Finding{Program: p.name, Purpose: p.purpose, Since: p.since, Tier: p.tier()}
}

// judgeFailure makes findings of a Load that failed: one program is known not to
// work, of the others nothing is known.
func judgeFailure(err error) []Finding {
	var about *ProgramError
	errors.As(err, &about)
	var out []Finding
	for _, p := range programs {
		f := findingOf(p)
		f.Err = fmt.Errorf("not tried: %w", err)
		if about != nil && about.Program == p.name {
			f.Err = about
			if errors.Is(missing(about.Err), ErrMissing) {
				f.State = Unsupported
			}
		}
		out = append(out, f)
	}
	return out
}

// sightings collects what a self-test provoked.
type sightings struct {
	mu   sync.Mutex
	list []Record
}

func (s *sightings) Denied(r Record) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.list = append(s.list, r)
}

func (s *sightings) Lost(event.Operation, uint64) {}

// provoked runs the provoking process in a sandbox and names the programs that
// took notice. With more arguments it provokes fexit programs, too.
func (l *Loader) provoked(ctx context.Context, dir string, args ...string) (map[string]bool, error) {
	box, err := cgroup.Make(dir, "self-test")
	if err != nil {
		return nil, err
	}
	if err := l.AddSandbox(box.Info.ID, l.testRules(box.Dir)); err != nil {
		return nil, errors.Join(err, box.Remove())
	}
	defer func() {
		_ = errors.Join(box.Kill(5*time.Second), l.RemoveSandbox(box.Info.ID), box.Remove()) // goes with its parent at the latest
	}()
	if err := l.Start(box.Info.ID, nil); err != nil {
		return nil, err
	}
	seen := &sightings{}
	readCtx, stop := context.WithCancel(ctx)
	read := make(chan error, 1)
	go func() { read <- l.Read(readCtx, seen) }()
	out, pid, err := l.startProvoking(ctx, box.Dir, args)
	stop() // what has happened until now is read first
	if err := errors.Join(err, <-read); err != nil {
		return nil, err
	}
	hits := map[string]bool{}
	for _, r := range seen.list {
		noteHit(hits, r, pid)
	}
	tcp, udp, v6 := parsePorts(out)
	hits[noIPv6] = !v6
	self := netip.MustParseAddr("127.0.0.1")
	if p, _ := l.ProcessOf(box.Info.ID, Connection{From: netip.AddrPortFrom(self, tcp), To: netip.AddrPortFrom(self, 53)}); p != nil && p.PID == pid {
		hits["connecting"] = true
	}
	if p, _ := l.ProcessOf(box.Info.ID, Connection{UDP: true, From: netip.AddrPortFrom(self, udp)}); p != nil && p.PID == pid {
		hits["asking"] = true
	}
	l.procs.mu.Lock()
	for _, k := range l.procs.gone {
		hits["process_exit"] = hits["process_exit"] || k.PID == pid
	}
	l.procs.mu.Unlock()
	return hits, nil
}

// noteHit finds the programs that a record proves.
func noteHit(hits map[string]bool, r Record, pid int) {
	version := "4"
	if a, err := netip.ParseAddr(r.Event.Object.Addr); err == nil && a.Is6() {
		version = "6"
	}
	switch {
	case r.Event.Layer == event.LayerLSM:
		noteLSM(hits, r, pid)
		return
	case r.Event.Layer == event.LayerTrace && r.Event.Operation == event.FileExec:
		hits[r.seen] = true
		hits["process_fork"] = len(r.Event.Ancestors) > 0 && r.Event.Ancestors[0].PID == pid
	case r.Event.Layer != event.LayerCgroup:
		noteWork(hits, r, pid)
		return
	case r.Event.Operation == event.UnixConnect:
		hits[map[string]string{"unix/stream": "connect_unix", "unix/dgram": "sendmsg_unix"}[r.Event.Object.Socket]] = true
	case r.Call == "socket":
		hits["socket_create"] = true
	case r.Call == "setsockopt":
		hits["socket_option"] = true
	default:
		hits[r.Call+version] = true
	}
	if p := r.Event.Process; p != nil && p.PID == pid && len(p.Argv) == 1 && p.Argv[0] == selfTestName {
		hits["process_exec"] = true
	}
}

func (l *Loader) startProvoking(ctx context.Context, dir string, args []string) (out string, pid int, err error) {
	f, err := os.Open(dir)
	if err != nil {
		return "", 0, err
	}
	defer f.Close()
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	self, err := filepath.EvalSymlinks("/proc/self/exe")
	if err != nil {
		return "", 0, err
	}
	cmd := exec.CommandContext(ctx, self)
	cmd.Args, cmd.Dir = args, dir
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(f.Fd())}
	if l.hasLSM() {
		o, err := makeOutside()
		if err != nil {
			return "", 0, err
		}
		defer o.close()
		o.give(cmd)
	}
	b, err := cmd.Output()
	if err != nil {
		return "", 0, fmt.Errorf("provoke: %w", err)
	}
	return string(b), cmd.Process.Pid, nil
}

// provoke does one of everything; it returns the two ports that it used, and
// whether there is IPv6. What
// succeeds, or fails otherwise, is found out by nobody having taken notice.
func provoke(fexit bool) string {
	doc4 := &unix.SockaddrInet4{Port: 9, Addr: [4]byte{192, 0, 2, 1}}                     // RFC 5737
	doc6 := &unix.SockaddrInet6{Port: 9, Addr: netip.MustParseAddr("2001:db8::1").As16()} // RFC 3849
	own := &unix.SockaddrInet4{Port: 53, Addr: [4]byte{127, 0, 0, 1}}
	nowhere := &unix.SockaddrUnix{Name: "/nowhere/" + selfTestName}
	var ports []uint16
	socket := func(family, kind, protocol int, use func(fd int)) {
		if fd, err := unix.Socket(family, kind|unix.SOCK_CLOEXEC, protocol); err == nil {
			use(fd)
			unix.Close(fd)
		}
	}
	nothing := func(int) {}
	// Whichever of these there is: UDP-Lite left Linux in the 7 series, raw takes
	// CAP_NET_RAW.
	socket(unix.AF_INET, unix.SOCK_DGRAM, 136, nothing)
	socket(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_ICMP, nothing)
	socket(unix.AF_INET, unix.SOCK_STREAM, 262, nothing) // MPTCP
	for family, to := range map[int]unix.Sockaddr{unix.AF_INET: doc4, unix.AF_INET6: doc6} {
		socket(family, unix.SOCK_DGRAM, 0, func(fd int) { unix.Connect(fd, to) })
		socket(family, unix.SOCK_DGRAM, 0, func(fd int) { unix.Sendto(fd, nil, 0, to) })
	}
	for _, kind := range []int{unix.SOCK_STREAM, unix.SOCK_DGRAM} {
		socket(unix.AF_INET, kind, 0, func(fd int) {
			unix.Bind(fd, &unix.SockaddrInet4{Addr: own.Addr})
			port := uint16(0)
			if a, err := unix.Getsockname(fd); err == nil {
				port = uint16(a.(*unix.SockaddrInet4).Port)
			}
			ports = append(ports, port)
			if kind == unix.SOCK_DGRAM {
				unix.Sendto(fd, nil, 0, own)
				return
			}
			unix.SetsockoptString(fd, unix.SOL_IP, unix.IP_OPTIONS, "\x01\x01\x01\x01")
			unix.SetNonblock(fd, true)
			unix.Connect(fd, own)
		})
	}
	socket(unix.AF_UNIX, unix.SOCK_STREAM, 0, func(fd int) { unix.Connect(fd, nowhere) })
	socket(unix.AF_UNIX, unix.SOCK_DGRAM, 0, func(fd int) { unix.Sendto(fd, nil, 0, nowhere) })
	syscall.ForkExec("/", []string{"/"}, nil) // a folder: EACCES, in the child
	if fexit {
		provokeWorks()
		provokeAnswer()
	}
	provokeLSM()
	for len(ports) < 2 {
		ports = append(ports, 0)
	}
	v6 := false
	socket(unix.AF_INET6, unix.SOCK_DGRAM, 0, func(int) { v6 = true })
	return fmt.Sprintf("%d %d %v", ports[0], ports[1], v6)
}

func parsePorts(s string) (tcp, udp uint16, v6 bool) {
	_, err := fmt.Sscan(s, &tcp, &udp, &v6)
	return tcp, udp, v6 || err != nil
}
