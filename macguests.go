//go:build linux || darwin

package sallyport

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/sallyport/sallyport/seatbelt"
)

// macGuests are the programs that a run's supervisor has running: its command,
// and what others asked for beside it. The zero value takes none.
type macGuests struct {
	mu   sync.Mutex
	main *seatbelt.Payload // nil: it does not run yet, or any more
	live map[*seatbelt.Payload]bool
}

var errNotRunning = errors.New("the sandbox has not started, or has ended")

func (g *macGuests) begin(main *seatbelt.Payload) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.main, g.live = main, map[*seatbelt.Payload]bool{}
}

// start starts a program, unless everything is being ended.
func (g *macGuests) start(launch func() (*seatbelt.Payload, error)) (*seatbelt.Payload, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.main == nil {
		return nil, errNotRunning
	}
	p, err := launch()
	if err == nil {
		g.live[p] = true
	}
	return p, err
}

func (g *macGuests) gone(p *seatbelt.Payload) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.live, p)
}

// kill ends the run's command, and with it the run.
func (g *macGuests) kill() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.main != nil {
		_ = g.main.Signal(syscall.SIGKILL) // ended already: nothing to end
	}
}

// end ends all others; none can start any more.
func (g *macGuests) end() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.main = nil
	for p := range g.live {
		_ = p.Signal(syscall.SIGKILL)
	}
}

// macRequest is what a client begins with; one field is set.
type macRequest struct {
	Kill bool      `json:",omitempty"` // the command, with SIGKILL
	Exec *macGuest `json:",omitempty"` // with three descriptors
}

// macGuest is a program to start. Bytes, since arguments are.
type macGuest struct {
	Argv, Env [][]byte
	Dir       []byte // default: the command's
}

// macOrder is what a client says after it.
type macOrder struct{ Signal syscall.Signal }

// macReply is what a client hears: that its program runs or why it does not,
// and how it ended.
type macReply struct {
	PID       int    `json:",omitempty"`
	Err, Hint string `json:",omitempty"`
	Status    int
}

// requestPatience is how long a client has to say what it wants.
const requestPatience = 10 * time.Second

// serveClient answers one client, a program of the same user outside. What it
// has started gets the profile, the proxy and the environment of the run's
// command, and ends with the client.
func (r *macRun) serveClient(f *os.File) {
	conn, err := net.FileConn(f)
	f.Close()
	if err != nil {
		return
	}
	defer conn.Close()
	in := &fileReader{conn: conn.(*net.UnixConn)}
	defer in.close()
	dec, enc := json.NewDecoder(in), json.NewEncoder(conn)
	var req macRequest
	_ = conn.SetReadDeadline(time.Now().Add(requestPatience))
	if dec.Decode(&req) != nil {
		return
	}
	_ = conn.SetReadDeadline(time.Time{}) // what it asked for may run for ever
	if req.Kill {
		r.guests.kill()
		return
	}
	if req.Exec == nil {
		return
	}
	p, err := r.launchGuest(*req.Exec, in.files)
	if err != nil {
		var e *Error
		errors.As(asError(err), &e)
		_ = enc.Encode(macReply{Err: err.Error(), Hint: e.Hint, Status: e.Status}) // gone: nobody to tell
		return
	}
	defer r.guests.gone(p)
	_ = enc.Encode(macReply{PID: p.PID()})
	in.close() // the program has them
	go obey(dec, p)
	status, err := p.Wait()
	if err != nil {
		status = statusFailed
	}
	_ = enc.Encode(macReply{Status: status})
}

// obey passes a client's signals on, and ends the program with the client.
func obey(dec *json.Decoder, p *seatbelt.Payload) {
	for {
		var o macOrder
		if dec.Decode(&o) != nil {
			_ = p.Signal(syscall.SIGKILL) // ended already: nothing to end
			return
		}
		_ = p.Signal(o.Signal)
	}
}

func (r *macRun) launchGuest(g macGuest, files []*os.File) (*seatbelt.Payload, error) {
	if len(files) != 3 || len(g.Argv) == 0 {
		return nil, errors.New("a program and three streams are needed")
	}
	dir := string(g.Dir)
	if !filepath.IsAbs(dir) {
		dir = filepath.Join(r.env.Cwd, dir)
	}
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		return nil, &Error{Err: &os.PathError{Op: "run in", Path: dir, Err: errors.Join(err, errors.New("not a directory"))}, Status: statusFailed}
	}
	p, err := r.guests.start(func() (*seatbelt.Payload, error) {
		return r.start(texts(g.Argv), dir, texts(g.Env), [3]*os.File(files))
	})
	if err == nil {
		r.tracker.Load().Add(seatbelt.Proc{PID: p.PID()})
	}
	return p, err
}

func texts(list [][]byte) []string {
	out := make([]string, len(list))
	for i, b := range list {
		out[i] = string(b)
	}
	return out
}

// start starts a program under the profile, with what the policy lets into its
// environment.
func (r *macRun) start(argv []string, dir string, extra []string, stdio [3]*os.File) (*seatbelt.Payload, error) {
	env := macEnviron(r.policy.Env(), os.Environ(), slices.Concat(r.opts.Env, extra), dir, r.tmp, r.port().Port(), r.token)
	command, err := findCommand(argv[0], dir, env)
	if err != nil {
		return nil, err
	}
	path, args := r.profile.Command(append([]string{command}, argv[1:]...)...)
	p, err := r.sys.Launch(seatbelt.Launch{Path: path, Args: args, Env: env, Dir: dir,
		Stdin: stdio[0], Stdout: stdio[1], Stderr: stdio[2]})
	if err != nil {
		return nil, fmt.Errorf("start the command: %w", err)
	}
	return p, nil
}

// fileReader reads a socket and keeps the descriptors that come with the bytes.
type fileReader struct {
	conn  *net.UnixConn
	files []*os.File
}

func (r *fileReader) Read(b []byte) (int, error) {
	oob := make([]byte, syscall.CmsgSpace(4*4))
	n, oobn, _, _, err := r.conn.ReadMsgUnix(b, oob)
	if err != nil {
		return n, err
	}
	messages, err := syscall.ParseSocketControlMessage(oob[:oobn])
	if err != nil {
		return n, err
	}
	for _, m := range messages {
		fds, err := syscall.ParseUnixRights(&m)
		if err != nil {
			return n, err
		}
		for _, fd := range fds {
			syscall.CloseOnExec(fd)
			r.files = append(r.files, os.NewFile(uintptr(fd), "stream"))
		}
	}
	if n == 0 && len(messages) == 0 {
		return 0, net.ErrClosed
	}
	if len(r.files) > 3 {
		return n, errors.New("too many descriptors")
	}
	return n, nil
}

func (r *fileReader) close() {
	for _, f := range r.files {
		f.Close()
	}
	r.files = nil
}
