package sandbox

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/sandbox/stage2"
)

// request is what a client of a running sandbox begins with; one field is set.
type request struct {
	Kill bool         `json:",omitempty"` // the payload, with SIGKILL
	Join *joinRequest `json:",omitempty"` // with three streams
}

// joinRequest asks for a program beside the payload.
type joinRequest struct {
	Argv stage2.RawList
	Env  stage2.RawList `json:",omitempty"` // added to the payload's
	Dir  stage2.Raw     `json:",omitempty"` // default: the payload's
	PTY  *stage2.PTYConfig
}

// guests are the programs that have joined a running sandbox.
type guests struct {
	mu    sync.Mutex
	last  int
	ended bool
	by    map[int]chan guestMessage
}

type guestMessage struct {
	stage2.Message
	terminal int // -1: none
}

// add gives a guest its number, and what stage 2 will say of it.
func (g *guests) add() (int, <-chan guestMessage, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.ended {
		return 0, nil, errors.New("the sandbox has ended")
	}
	if g.by == nil {
		g.by = map[int]chan guestMessage{}
	}
	g.last++
	messages := make(chan guestMessage, 2) // all that there are of one: begin, end
	g.by[g.last] = messages
	return g.last, messages, nil
}

// deliver passes on what stage 2 says. A program whose client has gone still
// has an end.
func (g *guests) deliver(m stage2.Message, rights *stage2.Rights) {
	terminal := -1
	if m.Terminal {
		terminal = rights.Take()
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	messages := g.by[m.Of]
	if messages == nil {
		closeFD(terminal)
		return
	}
	messages <- guestMessage{m, terminal}
	if m.Exit != nil || m.Err != "" {
		close(messages)
		delete(g.by, m.Of)
	}
}

// end is for when nothing more will come.
func (g *guests) end() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.ended = true
	for _, messages := range g.by {
		close(messages)
	}
	g.by = nil
}

// Serve answers one client of the running sandbox, a program of the same user
// outside, and closes the connection. A program that it starts has what the
// payload has and no more: it comes from the same process, in its namespaces
// and under its confinement, with its environment.
func (s *Sandbox) Serve(conn *os.File) {
	defer conn.Close()
	rights := stage2.NewRights(conn)
	defer rights.Close()
	in := json.NewDecoder(rights)
	var r request
	patience := func(seconds int64) {
		_ = unix.SetsockoptTimeval(int(conn.Fd()), unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: seconds})
	}
	patience(10)
	if err := in.Decode(&r); err != nil {
		return
	}
	patience(0) // what it asked for may run for ever
	if r.Kill {
		_ = s.Signal(syscall.SIGKILL) // gone: nothing to kill
		return
	}
	if r.Join == nil {
		return
	}
	if err := s.serveGuest(conn, in, *r.Join, rights.TakeStreams()); err != nil {
		m := stage2.Message{Err: err.Error(), Code: 125}
		var e *Error
		if errors.As(err, &e) {
			m.Hint = e.Hint
		}
		_ = sendMessage(conn, m, -1) // gone: nobody to tell
	}
}

func (s *Sandbox) serveGuest(conn *os.File, in *json.Decoder, r joinRequest, fds []int) error {
	number, messages, err := s.startGuest(r, fds)
	if err != nil {
		return err
	}
	var reading sync.WaitGroup
	reading.Go(func() {
		var c stage2.Command
		for in.Decode(&c) == nil {
			_ = s.send(stage2.Command{Of: number, Signal: c.Signal}) // gone: nothing to signal
			c = stage2.Command{}
		}
		// As a run's command ends with its supervisor, so does this with its.
		_ = s.send(stage2.Command{Of: number, Signal: int(unix.SIGKILL)})
	})
	defer reading.Wait()
	defer func() { _ = unix.Shutdown(int(conn.Fd()), unix.SHUT_RDWR) }()
	for m := range messages {
		_ = sendMessage(conn, m.Message, m.terminal) // gone: nobody to tell
		closeFD(m.terminal)
		if m.Exit != nil || m.Err != "" {
			return nil
		}
	}
	return errors.New("the sandbox has ended")
}

func (s *Sandbox) startGuest(r joinRequest, fds []int) (int, <-chan guestMessage, error) {
	defer func() {
		for _, fd := range fds {
			unix.Close(fd)
		}
	}()
	if len(fds) != 3 || len(r.Argv) == 0 {
		return 0, nil, errors.New("join the sandbox: a command and three streams are needed")
	}
	for i, fd := range fds {
		copied, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			return 0, nil, fmt.Errorf("look at %s: %w", stage2.StreamNames[i], err)
		}
		f := os.NewFile(uintptr(copied), stage2.StreamNames[i])
		_, err = streamKind(i, f)
		f.Close()
		if err != nil {
			return 0, nil, err
		}
	}
	number, messages, err := s.guests.add()
	if err != nil {
		return 0, nil, err
	}
	c := stage2.Exec{ID: number, Argv: r.Argv, Env: addEnv(s.plan.Env, r.Env), Dir: stage2.Raw(s.plan.Dir), PTY: r.PTY}
	if r.Dir != "" {
		c.Dir = r.Dir
	}
	s.sending.Lock()
	defer s.sending.Unlock()
	return number, messages, stage2.SendWith(s.init, stage2.Command{Exec: &c}, fds...)
}

// addEnv replaces and adds variables.
func addEnv(env, extra []string) []string {
	out := slices.Clone(env)
	for _, e := range extra {
		name, _, _ := strings.Cut(e, "=")
		out = slices.DeleteFunc(out, func(old string) bool { return strings.HasPrefix(old, name+"=") })
		out = append(out, e)
	}
	return out
}

// sendMessage sends a message with a descriptor, or with -1 without.
func sendMessage(conn *os.File, m stage2.Message, fd int) error {
	if fd >= 0 {
		return stage2.SendWith(conn, m, fd)
	}
	return json.NewEncoder(conn).Encode(m)
}
