package sandbox

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/internal/event"
	"github.com/sallyport/sallyport/internal/plan"
	"github.com/sallyport/sallyport/sandbox/stage2"
)

// startTimeout bounds each step of a start that waits for another process.
const startTimeout = 20 * time.Second

// Sandbox is one run's boundary.
type Sandbox struct {
	cmd       *child
	stage1    *program
	net       plan.Network
	control   *os.File // stage 1
	args      *os.File // bubblewrap's arguments; nil: sent, or not to be
	files     []*os.File
	init      *os.File // stage 2
	in        *json.Decoder
	out       *json.Encoder
	sending   sync.Mutex // of out
	relay     *relay
	term      *terminal // nil: no stream is one
	job       *job
	stderr    *tail
	thread    chan struct{} // closed: the thread that started stage 1 may end
	exited    chan struct{} // closed when stage 1 (bubblewrap) has ended
	exitErr   error
	pid       int
	sockets   *Sockets
	handed    chan struct{} // closed: stage 1 has opened all that it opens, and waits; or netErr will say why not
	netUp     chan struct{} // closed: the network has been made, or netErr says why not
	netErr    error
	who       processes
	opened    *opened
	emit      func(event.Event)
	plan      *plan.Plan
	late      []plan.Late  // of its mounts
	mounter   *lateMounter // of these; nil: none, or not by it
	entered   *masks       // by who made them; nil: nobody, or the keeping of masks has it
	calls     *listener
	describe  Describe       // see Attribute
	rights    *stage2.Rights // stage 2's messages
	guests    guests
	masks     atomic.Pointer[masks] // nil: there are none to keep
	ports     *innerPorts           // nil: nobody asked
	portsErr  error
	portsOnce sync.Once
	NoPing    string // why ICMP echo is refused without a record; empty: it is recorded
}

// Start makes the namespaces, in stage 1, and goes on to make the network.
// Nothing of the payload exists yet.
func Start(cfg Config) (*Sandbox, error) {
	s := &Sandbox{thread: make(chan struct{}), exited: make(chan struct{}), stderr: &tail{}, emit: cfg.Emit, opened: newOpened()}
	if s.emit == nil {
		s.emit = func(event.Event) {}
	}
	if err := s.start(cfg); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

func (s *Sandbox) start(cfg Config) error {
	if err := s.startStage1(cfg); err != nil {
		return err
	}
	s.handed, s.netUp = make(chan struct{}), make(chan struct{})
	go func() {
		defer close(s.netUp)
		s.netErr = s.receive()
	}()
	return nil
}

// startStage1 keeps none of stage 1's ends: the end of a process is seen by the
// end of its sockets.
func (s *Sandbox) startStage1(cfg Config) error {
	var theirs []*os.File
	defer func() {
		for _, f := range theirs {
			f.Close()
		}
	}()
	stdio, err := s.stdio(cfg)
	if err != nil {
		return err
	}
	null, err := s.standIn(&stdio)
	if err != nil {
		return err
	}
	theirs = append(theirs, null...)
	bwrap, _ := bubblewrap() // without one there is no plan, and nothing is executed; but the rest can be tried
	var control, initEnd, pipe, args *os.File
	if s.control, control, err = socketpair(unix.SOCK_SEQPACKET); err != nil {
		return err
	}
	theirs = append(theirs, control)
	if s.init, initEnd, err = socketpair(unix.SOCK_STREAM); err != nil {
		return err
	}
	theirs = append(theirs, initEnd)
	if pipe, err = s.stderr.pipe(); err != nil {
		return err
	}
	theirs = append(theirs, pipe)
	if args, s.args, err = os.Pipe(); err != nil {
		return fmt.Errorf("make pipe: %w", err)
	}
	theirs = append(theirs, args)
	if err := s.memfiles(); err != nil {
		return err
	}
	files := append([]*os.File{stdio[0], stdio[1], pipe, control, args, initEnd, stdio[2]}, s.files...)
	s.net = availableNetwork(cfg.Network)
	return s.spawn(files, bwrap)
}

func (s *Sandbox) memfiles() (err error) {
	for range plan.OwnFiles {
		f, err := memfile("file")
		if err != nil {
			return err
		}
		s.files = append(s.files, f)
	}
	return nil
}

// spawn starts stage 1 from a thread that lives until Close: the kernel sends
// the death signal when the thread ends, not the process (prctl(2)).
func (s *Sandbox) spawn(files []*os.File, bwrap string) error {
	numbers, free, err := clearOf(len(files), files)
	if err != nil {
		return err
	}
	defer free()
	s.stage1 = stage1(numbers, networkSockets(s.net), bwrap)
	result := make(chan error)
	go func() {
		runtime.LockOSThread()
		pid, err := s.stage1.forkSharing(stage1Flags)
		if err == nil {
			s.cmd = &child{pid: pid}
		}
		result <- err
		if err == nil {
			<-s.thread
		}
		runtime.UnlockOSThread()
	}()
	if err := <-result; err != nil {
		return explainNamespaces(err)
	}
	go func() {
		s.exitErr = s.cmd.wait()
		close(s.exited)
	}()
	return nil
}

// clearOf gives the numbers of files, none of which is below first: a copy takes
// the place of each that is.
func clearOf(first int, files []*os.File) (numbers []int, free func(), err error) {
	var copies []int
	free = func() {
		for _, fd := range copies {
			unix.Close(fd)
		}
	}
	for _, f := range files {
		fd := int(f.Fd()) // which makes it blocking, for who gets it
		if fd < first {
			if fd, err = unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, first); err != nil {
				free()
				return nil, nil, fmt.Errorf("copy descriptor: %w", err)
			}
			copies = append(copies, fd)
		}
		numbers = append(numbers, fd)
	}
	return numbers, free, nil
}

// Sockets returns when the network has been made. They are the proxy's to serve
// and to close.
func (s *Sandbox) Sockets() (*Sockets, error) {
	<-s.netUp
	return s.sockets, s.netErr
}

// UnixProxy is the proxy's unix socket, there once Prove has returned, and the
// proxy's to serve and to close like Sockets.
func (s *Sandbox) UnixProxy() net.Listener { return s.sockets.unix }

// Launch starts the rest of the boundary.
func (s *Sandbox) Launch(p *plan.Plan) error {
	if len(p.Files) > len(s.files) {
		return fmt.Errorf("launch: %d files of its own, %d descriptors", len(p.Files), len(s.files))
	}
	for i, f := range p.Files {
		if _, err := s.files[i].WriteAt([]byte(f.Content), 0); err != nil {
			return fmt.Errorf("write %s: %w", f.Path, err)
		}
	}
	s.plan, s.late, s.rights = p, p.LateMounts(), stage2.NewRights(s.init)
	s.in, s.out = json.NewDecoder(s.rights), json.NewEncoder(s.init)
	if err := s.sendArgs(p.BwrapArgsBut(s.late)); err != nil {
		if _, netErr := s.Sockets(); netErr != nil {
			return netErr
		}
		return s.died("stage 1")
	}
	s.prepareRest()
	return nil
}

// sendArgs lets bubblewrap begin.
func (s *Sandbox) sendArgs(args []string) error {
	_ = s.args.SetWriteDeadline(time.Now().Add(startTimeout)) // a pipe has one
	_, err := s.args.WriteString(strings.Join(args, "\x00") + "\x00")
	err = errors.Join(err, s.args.Close())
	s.args = nil
	return err
}

// Prove returns when stage 2 has proved that its traffic reaches the proxy,
// which must be serving by now. The payload is not started yet.
func (s *Sandbox) Prove(canary Canary) error {
	// Nothing here should block; a mount of the host's that does must not hang
	// the start for ever. The death of stage 1 ends every wait below.
	watchdog := time.AfterFunc(startTimeout+time.Duration(len(s.late))*mountTime, s.cmd.kill)
	defer watchdog.Stop()
	p := s.plan
	filter, err := seccompFilter(p.Seccomp, true)
	if err != nil {
		return err
	}
	config := stage2.Config{Argv: p.Argv, Env: p.Env, Dir: stage2.Raw(p.Dir), Landlock: stage2.Landlock(p.Landlock), Filter: filter, Canary: canary, PTY: s.term.config()}
	if err := s.send(config); err != nil {
		return s.died("bubblewrap")
	}
	m, err := s.next()
	if err != nil {
		return err
	}
	if !m.Ready {
		return errors.New("start stage 2: it did not get ready")
	}
	if err := s.mountRest(); err != nil {
		return err
	}
	if err := s.sockets.adoptUnix(s.rights.Take()); err != nil {
		return err
	}
	return s.term.adopt(s.rights.Take())
}

// Release starts the payload.
func (s *Sandbox) Release() error {
	s.term.show(s.hangUp)
	s.job = newJob(s, s.term)
	if err := s.send(stage2.Command{Go: true}); err != nil {
		return s.died("stage 2")
	}
	if err := s.listen(); err != nil {
		return err
	}
	m, err := s.next()
	if err != nil {
		return err
	}
	s.pid = m.PID
	if err := s.term.begin(); err != nil {
		return err
	}
	s.relay.start()
	s.job.start()
	return nil
}

// hangUp tells the payload that its terminal has gone, stopped or not.
func (s *Sandbox) hangUp() {
	_ = s.Signal(syscall.SIGHUP) // ended: nobody to tell
	_ = s.Signal(syscall.SIGCONT)
}

func (s *Sandbox) send(message any) error {
	s.sending.Lock()
	defer s.sending.Unlock()
	return s.out.Encode(message)
}

// next reads stage 2's next message; what it reports as an error is one.
func (s *Sandbox) next() (stage2.Message, error) {
	var m stage2.Message
	if err := s.in.Decode(&m); err != nil {
		return m, s.died("bubblewrap")
	}
	if m.Err != "" && m.Of == 0 {
		return m, &Error{Err: errors.New(m.Err), Hint: m.Hint, Status: m.Code}
	}
	return m, nil
}

// Signal passes a signal to the payload's process group.
func (s *Sandbox) Signal(sig syscall.Signal) error {
	return s.send(stage2.Command{Signal: int(sig)})
}

// Wait returns when the payload has ended and with it everything in the
// sandbox. Without stage 2's word of how it ended, that is an error.
func (s *Sandbox) Wait() (ExitStatus, error) {
	defer s.guests.end()
	m, err := s.next()
	for ; err == nil && (m.Of != 0 || m.Frozen || m.Stopped != 0); m, err = s.next() {
		switch {
		case m.Frozen:
			s.masks.Load().isFrozen()
		case m.Of != 0:
			s.guests.deliver(m, s.rights)
		default:
			s.job.payloadStopped(syscall.Signal(m.Stopped))
		}
	}
	if err != nil {
		return ExitStatus{}, errors.Join(s.masks.Load().stop(), err)
	}
	<-s.exited
	if err := s.masks.Load().stop(); err != nil {
		return ExitStatus{}, err
	}
	s.calls.stop()
	s.job.stop()
	s.relay.wait()
	s.term.wait()
	if m.Exit == nil {
		return ExitStatus{}, errors.New("wait for the payload: stage 2 ended without its status")
	}
	return *m.Exit, nil
}

// died explains the end of a process that should have gone on.
func (s *Sandbox) died(who string) error {
	select {
	case <-s.exited:
	case <-time.After(time.Second):
	}
	buf := make([]byte, 64)
	n, _, err := unix.Recvfrom(int(s.control.Fd()), buf, unix.MSG_DONTWAIT)
	if err == unix.ECONNRESET { // as above
		n, _, err = unix.Recvfrom(int(s.control.Fd()), buf, unix.MSG_DONTWAIT)
	}
	if err == nil && n > 0 {
		if _, err := s.report(buf[:n]); err != nil {
			return explainStage1(err)
		}
	}
	said := s.stderr.text()
	if said == "" {
		said = "ended without a word"
		if s.exitErr != nil {
			said = s.exitErr.Error()
		}
	}
	return fail(bwrapHint(said), "%s: %s", who, strings.TrimPrefix(said, "bwrap: "))
}

// Close ends whatever is still there and frees what the sandbox holds. The
// sockets are the proxy's to close.
func (s *Sandbox) Close() error {
	if s.cmd != nil {
		s.cmd.kill()
		<-s.exited
		<-s.netUp
	}
	select {
	case <-s.thread:
	default:
		close(s.thread)
	}
	s.rights.Close()
	s.ports.close()
	for _, f := range append([]*os.File{s.control, s.init, s.args, s.who.diag}, s.files...) {
		if f != nil {
			f.Close()
		}
	}
	_ = s.masks.Load().stop() // told by Wait
	s.entered.leave()
	s.relay.close()
	s.job.stop()
	s.term.close()
	return nil
}
