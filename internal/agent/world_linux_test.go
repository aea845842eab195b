package agent

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/internal/audit"
	"github.com/sallyport/sallyport/internal/event"
	"github.com/sallyport/sallyport/internal/policy"
	"github.com/sallyport/sallyport/loader"
)

// roles are what the test binary does when it is started as something else.
var roles = map[string]func(){"agent": agentRole, "user": userRole, "target": targetRole, "payload": payloadRole, "activated": activatedRole}

const roleVariable = "AGENT_TEST_ROLE"

func TestMain(m *testing.M) {
	loader.Init()
	if role := roles[os.Getenv(roleVariable)]; role != nil {
		role()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func needRoot(t testing.TB) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("an agent needs root")
	}
}

// scratch is a folder that every user can look into.
func scratch(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/var/tmp", "agent-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// world is an agent of the test's own.
type world struct {
	t           testing.TB
	dir, socket string
	s           *Server
	l           *net.UnixListener
	served      chan error
	mu          sync.Mutex
	warnings    []string
}

func newWorld(t testing.TB, limits Limits) *world {
	t.Helper()
	needRoot(t)
	w := &world{t: t, dir: scratch(t)}
	w.socket = w.dir + "/socket"
	t.Cleanup(func() {
		if err := Remove(w.state()); err != nil {
			t.Errorf("remove: %v", err)
		}
	})
	w.begin(limits)
	t.Cleanup(w.end)
	return w
}

func (w *world) state() string { return w.dir + "/state" }

func (w *world) options(limits Limits) Options {
	return Options{StateDir: w.state(), Ceiling: w.dir + "/policy.d", Version: "test", Limits: limits, Warn: func(s string) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.warnings = append(w.warnings, s)
	}}
}

func (w *world) begin(limits Limits) {
	w.t.Helper()
	var err error
	if w.s, err = New(w.options(limits)); err != nil {
		w.t.Fatal(err)
	}
	if w.l, err = Listen(w.socket); err != nil {
		w.t.Fatal(err)
	}
	w.served = make(chan error, 1)
	go func() { w.served <- w.s.Serve(w.l) }()
}

// end ends the agent, as SIGTERM does.
func (w *world) end() {
	w.t.Helper()
	if w.s == nil {
		return
	}
	w.l.Close()
	if err := errors.Join(<-w.served, w.s.Close()); err != nil {
		w.t.Error(err)
	}
	w.s = nil
}

// records reads the machine's log.
func (w *world) records() []event.Event {
	w.t.Helper()
	var out []event.Event
	for r, err := range audit.Query(w.state()+"/audit", audit.Filter{}) {
		if err != nil {
			w.t.Errorf("read the log: %v", err)
			continue
		}
		out = append(out, r.Event)
	}
	return out
}

// count sums the attempts for which f says yes.
func count(list []event.Event, f func(event.Event) bool) (n uint64) {
	for _, e := range list {
		if f(e) {
			n += e.Count
		}
	}
	return n
}

// until waits for a condition.
func until(t testing.TB, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !f(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: not within 30 s", what)
		}
	}
}

// order is what a test has a user do, result what came of it.
type order struct {
	Op     string
	PID    int    // register: another process; else its own target
	Policy string `json:",omitempty"`
	Name   string `json:",omitempty"`
	Canary bool   `json:",omitempty"` // register: one is promised
	N      int
	Conn   loader.Connection
	Text   string
}

type result struct {
	Err       string
	PID       int
	ID        string
	Text      string
	Events    []event.Event
	Returns   int
	Left      int
	Ended     Ended
	Names     []string
	Processes []event.Process
}

// user is a process of another user that speaks to the agent.
type user struct {
	t   testing.TB
	cmd *exec.Cmd
	in  io.WriteCloser
	out *json.Decoder
}

func (w *world) user(uid int) *user {
	w.t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = []string{roleVariable + "=user", "AGENT_TEST_SOCKET=" + w.socket, "GOMAXPROCS=1"}
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(uid)}, Pdeathsig: 0}
	cmd.Stderr = os.Stderr
	u := &user{t: w.t, cmd: cmd}
	in, err := cmd.StdinPipe()
	if err != nil {
		w.t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		w.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	u.in, u.out = in, json.NewDecoder(out)
	w.t.Cleanup(u.kill)
	return u
}

func (u *user) kill() {
	_ = u.cmd.Process.Kill()
	_ = u.cmd.Wait() // killed
}

// try has the user do something.
func (u *user) try(o order) result {
	u.t.Helper()
	b, err := json.Marshal(o)
	if err != nil {
		u.t.Fatal(err)
	}
	if _, err := u.in.Write(append(b, '\n')); err != nil {
		u.t.Fatalf("%s: %v", o.Op, err)
	}
	var r result
	if err := u.out.Decode(&r); err != nil {
		u.t.Fatalf("%s: %v", o.Op, err)
	}
	return r
}

// do has the user do what must work.
func (u *user) do(op string, n int) result {
	u.t.Helper()
	r := u.try(order{Op: op, N: n})
	if r.Err != "" {
		u.t.Fatalf("%s: %s", op, r.Err)
	}
	return r
}

// sandbox gives a user a sandbox, recording.
func (w *world) sandbox(uid int) (*user, string) {
	w.t.Helper()
	u := w.user(uid)
	id := u.do("register", 0).ID
	u.do("start", 0)
	return u, id
}

// userRole takes orders on its standard input.
func userRole() {
	st := &userState{path: os.Getenv("AGENT_TEST_SOCKET")}
	in := bufio.NewScanner(os.Stdin)
	in.Buffer(nil, 4<<20)
	out := json.NewEncoder(os.Stdout)
	for in.Scan() {
		var o order
		r := result{}
		err := json.Unmarshal(in.Bytes(), &o)
		if err == nil {
			err = st.obey(o, &r)
		}
		if err != nil {
			r.Err = err.Error()
		}
		if err := out.Encode(r); err != nil {
			os.Exit(1)
		}
	}
}

type userState struct {
	path    string
	target  *exec.Cmd
	tell    io.Writer
	told    *bufio.Reader
	pair    int // to hand the target a descriptor
	box     *Sandbox
	mu      sync.Mutex
	events  []event.Event
	returns int
}

func (u *userState) obey(o order, r *result) (err error) {
	switch o.Op {
	case "target":
		err = u.spawn()
	case "register":
		err = u.register(o, r)
	case "start":
		err = u.box.Start()
	case "refused", "hidden", "hold", "make":
		r.Text, err = u.command(fmt.Sprintf("%s %d %s", o.Op, o.N, o.Text))
	case "report":
		for i := range o.N {
			err = errors.Join(err, u.box.Append(event.Event{Layer: event.LayerProxy, Operation: event.NetConnect,
				Reason: event.NotAllowed, Rule: "builtin:default-deny", Count: 1, Sandbox: event.Sandbox{ID: "forged"},
				Object: event.Object{Host: event.Text(fmt.Sprintf("%s%d.example", o.Text, i)), Port: 443, Proto: "tcp"}}))
		}
	case "update":
		r.Text, err = u.box.Update(Update{Files: []PolicyFile{{Name: "update", Data: []byte(o.Text)}}})
	case "traffic":
		if !u.box.Traffic(event.Traffic{Open: int64(o.N), BytesIn: uint64(o.N), Starts: map[event.Start]uint64{event.Started: 99}}) {
			err = errors.New("not sent")
		}
	case "settle":
		r.Left = len(u.box.Settle(20 * time.Second))
	case "process":
		p, ancestors := u.box.ProcessOf(o.Conn)
		if p != nil {
			r.Processes = append(append(r.Processes, *p), ancestors...)
		}
	case "events":
		u.mu.Lock()
		r.Events, r.Returns = append(r.Events, u.events...), u.returns
		u.mu.Unlock()
	case "end":
		u.killTarget()
		r.Ended, err = u.box.End()
		u.box.Close()
	case "close":
		u.box.Close()
	case "status":
		var st *Status
		if st, err = Ask(u.path); err == nil {
			r.Text, r.Left = st.Tier.String(), st.Sandboxes
		}
	case "open":
		_, err = Logs(u.path).Open(o.Text)
	case "logs":
		err = u.logs(r)
	case "raw":
		r.Text, err = u.raw(o)
	case "early": // a payload that is there before the sandbox
		if err = u.spawn(); err == nil {
			_, err = u.command("refused 0 x")
		}
	case "many":
		err = u.many(o.N)
	case "hand":
		r.Text, err = u.hand(o.N == 0)
	case "attack":
		r.Text, err = u.attack(o.Text)
	case "fork": // a child that is no target
		cmd := exec.Command("/bin/sleep", "60")
		if err = cmd.Start(); err == nil {
			r.PID = cmd.Process.Pid
		}
	}
	if u.target != nil && u.target.Process != nil {
		if r.PID == 0 {
			r.PID = u.target.Process.Pid
		}
	}
	return err
}

// spawn starts a child as stage 1 is: first of a pid namespace, in a user
// namespace of its own.
func (u *userState) spawn() error {
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = []string{roleVariable + "=target", "GOMAXPROCS=1"}
	cmd.Dir = "/"
	cmd.Stderr = os.Stderr
	uid, gid := os.Getuid(), os.Getgid()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	theirs := os.NewFile(uintptr(pair[1]), "pair")
	defer theirs.Close()
	cmd.ExtraFiles = []*os.File{theirs}
	u.pair = pair[0]
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER | syscall.CLONE_NEWPID, Pdeathsig: syscall.SIGKILL,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: uid, HostID: uid, Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: gid, HostID: gid, Size: 1}}}
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	u.target, u.tell, u.told = cmd, in, bufio.NewReader(out)
	_, err = u.told.ReadString('\n')
	return err
}

func (u *userState) command(line string) (string, error) {
	if _, err := io.WriteString(u.tell, line+"\n"); err != nil {
		return "", err
	}
	answer, err := u.told.ReadString('\n')
	return strings.TrimSpace(answer), err
}

func (u *userState) killTarget() {
	if u.target != nil {
		_ = u.target.Process.Kill()
		_ = u.target.Wait() // killed
		u.target = nil
	}
}

func (u *userState) register(o order, r *result) error {
	if u.target == nil && o.PID == 0 {
		if err := u.spawn(); err != nil {
			return err
		}
	}
	reg := Registration{ID: newID(), Name: o.Name, PID: o.PID, Env: testEnv, Canary: o.Canary}
	if o.PID == 0 {
		reg.PID = u.target.Process.Pid
	}
	if o.Policy != "" {
		reg.Files = []PolicyFile{{Name: "policy.yaml", Data: []byte(o.Policy)}}
	}
	box, err := register(u.path, reg, Handler{
		Event: func(e event.Event, _ string) { u.mu.Lock(); defer u.mu.Unlock(); u.events = append(u.events, e) },
		Back:  func(time.Duration) { u.mu.Lock(); defer u.mu.Unlock(); u.returns++ },
	})
	if err != nil {
		return err
	}
	u.box, r.ID = box, box.ID
	return nil
}

func register(path string, r Registration, h Handler) (*Sandbox, error) {
	c, err := Reach(path)
	if err != nil {
		return nil, err
	}
	box, err := c.Register(r, h)
	if err != nil {
		c.Close()
	}
	return box, err
}

var testEnv = policy.Env{Home: "/home/test", Cwd: "/home/test/work", Exe: "/usr/bin/sallyport"}

func (u *userState) logs(r *result) error {
	src := Logs(u.path)
	files, _, err := src.List()
	if err != nil {
		return err
	}
	for _, entry := range files {
		r.Names = append(r.Names, entry.Name())
		f, err := src.Open(entry.Name())
		if err != nil {
			return err
		}
		for e, err := range audit.Read(f, entry.Name()) {
			if err != nil {
				return err
			}
			r.Events = append(r.Events, e)
		}
		if _, err := f.Write([]byte("x")); err == nil {
			return errors.New("the log can be written to")
		}
		if again, err := os.OpenFile(fmt.Sprintf("/proc/self/fd/%d", f.Fd()), os.O_WRONLY, 0); err == nil && os.Getuid() != 0 {
			again.Close()
			return errors.New("the log can be opened again for writing")
		}
		f.Close()
	}
	return nil
}

// raw sends bytes to the agent as packets, one a line of Text, and gives what
// comes back until it is silent.
func (u *userState) raw(o order) (string, error) {
	c, err := net.Dial("unixpacket", u.path)
	if err != nil {
		return "", err
	}
	defer c.Close()
	return speak(c, strings.Split(o.Text, "\n"), 300*time.Millisecond)
}

// many makes sandboxes of children that do nothing.
func (u *userState) many(n int) error {
	uid, gid := os.Getuid(), os.Getgid()
	for range n {
		cmd := exec.Command("/bin/sleep", "300")
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER | syscall.CLONE_NEWPID, Pdeathsig: syscall.SIGKILL,
			UidMappings: []syscall.SysProcIDMap{{ContainerID: uid, HostID: uid, Size: 1}},
			GidMappings: []syscall.SysProcIDMap{{ContainerID: gid, HostID: gid, Size: 1}}}
		if err := cmd.Start(); err != nil {
			return err
		}
		box, err := register(u.path, Registration{ID: newID(), PID: cmd.Process.Pid, Env: testEnv}, Handler{})
		if err == nil {
			err = box.Start()
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// attack is raw, after the greeting was heard; with its nonce put into what is
// still JSON.
func (u *userState) attack(text string) (string, error) {
	c, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: u.path, Net: "unixpacket"})
	if err != nil {
		return "", err
	}
	defer c.Close()
	m, err := newReceiver(c).next()
	if err != nil || m.Greeting == nil {
		return "", nil // too many connections
	}
	var packets []string
	for _, p := range strings.Split(text, "\n") {
		packets = append(packets, strings.Replace(p, `{"id":`, `{"nonce":"`+m.Greeting.Nonce+`","id":`, 1))
	}
	return speak(c, packets, 10*time.Millisecond)
}

// hand gives the target a connection: the sandbox's own, or a new one that has
// heard its greeting.
func (u *userState) hand(own bool) (string, error) {
	l := u.box.link
	if !own {
		var err error
		if l, err = dial(u.path, func(message) {}); err != nil {
			return "", err
		}
		defer l.close()
	}
	err := onFD(l.conn, func(fd int) error { return unix.Sendmsg(u.pair, []byte{1}, unix.UnixRights(fd), nil, 0) })
	if err != nil {
		return "", err
	}
	answer, err := u.command("speak 0 " + l.nonce)
	var text string
	return text, errors.Join(err, json.Unmarshal([]byte(answer), &text))
}

func speak(c net.Conn, packets []string, wait time.Duration) (string, error) {
	for _, p := range packets {
		if _, err := c.Write([]byte(p)); err != nil {
			break
		}
	}
	var said strings.Builder
	buf := make([]byte, 64<<10)
	for {
		_ = c.SetReadDeadline(time.Now().Add(wait))
		n, err := c.Read(buf)
		if err != nil {
			return said.String(), nil
		}
		said.Write(buf[1:n])
		said.WriteByte('\n')
	}
}

// targetRole stands where the stages stand: what it does itself is not recorded. On
// the first order that is not to make a folder it starts a payload, and passes
// orders on.
func targetRole() {
	fmt.Println("here")
	in := bufio.NewScanner(os.Stdin)
	var payload io.Writer
	for in.Scan() {
		if name, ok := strings.CutPrefix(in.Text(), "make 0 "); ok && payload == nil {
			fmt.Println(unix.Mkdirat(unix.AT_FDCWD, name, 0o700))
			continue
		}
		if payload == nil {
			cmd := exec.Command("/proc/self/exe")
			cmd.Env = []string{roleVariable + "=payload", "GOMAXPROCS=1"}
			cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
			cmd.ExtraFiles = []*os.File{os.NewFile(3, "pair")}
			var err error
			if payload, err = cmd.StdinPipe(); err == nil {
				err = cmd.Start()
			}
			if err != nil {
				fmt.Println(err)
				return
			}
		}
		fmt.Fprintln(payload, in.Text())
	}
}

// payloadRole stands where the payload stands.
func payloadRole() {
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		var op, text string
		var n int
		fmt.Sscan(in.Text(), &op, &n, &text)
		switch op {
		case "refused": // datagrams: sendmsg is the cgroup program's to refuse
			fmt.Println(refusedDatagrams(n))
		case "hidden": // files: what the mounts and permissions refuse is recorded
			for i := range n {
				_, _ = os.Open(fmt.Sprintf("%s/%d", text, i))
			}
			fmt.Println("done")
		case "make": // a folder
			fmt.Println(unix.Mkdirat(unix.AT_FDCWD, text, 0o700))
		case "speak":
			b, _ := json.Marshal(speakHanded(text))
			fmt.Println(string(b))
		case "hold": // a connection
			c, err := net.Dial("tcp", text)
			if err != nil {
				fmt.Println(err)
				continue
			}
			fmt.Println(c.LocalAddr())
		}
	}
}

// speakHanded makes requests on a connection that was handed over.
func speakHanded(nonce string) string {
	oob := make([]byte, 64)
	_, n, _, _, err := unix.Recvmsg(3, make([]byte, 1), oob, 0)
	if err != nil {
		return err.Error()
	}
	_, fds, _ := parseControl(oob[:n])
	c, err := net.FileConn(os.NewFile(uintptr(fds[0]), "handed"))
	if err != nil {
		return err.Error()
	}
	var packets []string
	for _, r := range requests(1) {
		packets = append(packets, "\x00"+r, "\x00"+strings.Replace(r, `{"id":`, `{"nonce":"`+nonce+`","id":`, 1))
	}
	said, err := speak(c, packets, 300*time.Millisecond)
	if err != nil {
		return err.Error()
	}
	return said
}

// made counts datagrams: each is to a destination of its own, so that none is a
// repeat of another.
var made int

func refusedDatagrams(n int) (refused int) {
	for range n {
		made++
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return -1
		}
		if unix.Connect(fd, &unix.SockaddrInet4{Port: 1000 + made%60000, Addr: [4]byte{192, 0, 2, byte(made / 60000)}}) == unix.EPERM {
			refused++
		}
		unix.Close(fd)
	}
	return refused
}

// agentRole is an agent in a process of its own, so that it can be killed.
func agentRole() {
	s, err := New(Options{StateDir: os.Getenv("AGENT_TEST_STATE"), Ceiling: "/nonexistent", Version: "test",
		Warn: func(text string) { fmt.Fprintln(os.Stderr, "agent:", text) }})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	l, err := Listen(os.Getenv("AGENT_TEST_SOCKET"))
	if err == nil {
		err = Drop()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM)
	go func() { <-signals; l.Close() }()
	fmt.Println("ready")
	if err := errors.Join(s.Serve(l), s.Close()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// process is an agent in a process of its own.
func (w *world) process() *exec.Cmd {
	w.t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), roleVariable+"=agent", "AGENT_TEST_STATE="+w.state(), "AGENT_TEST_SOCKET="+w.socket)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
		w.t.Fatalf("agent: %q, %v", line, err)
	}
	return cmd
}

// processWorld is a world whose agent is a process.
func processWorld(t testing.TB) (*world, *exec.Cmd) {
	t.Helper()
	needRoot(t)
	w := &world{t: t, dir: scratch(t)}
	w.socket = w.dir + "/socket"
	t.Cleanup(func() {
		if err := Remove(w.state()); err != nil {
			t.Errorf("remove: %v", err)
		}
	})
	return w, w.process()
}

func isHook(e event.Event) bool { return e.Layer == event.LayerCgroup }

func leftovers(t testing.TB, w *world) (out []string) {
	t.Helper()
	p, err := findPlaces(w.state())
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{p.cgroup, p.journals} {
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if e.IsDir() || dir == p.journals {
				out = append(out, filepath.Join(dir, e.Name()))
			}
		}
	}
	return out
}

func newID() string { return newNonce()[:12] }

// field reads one of /proc/PID/status.
func field(status, name string) string {
	_, rest, _ := strings.Cut(status, "\n"+name+":")
	value, _, _ := strings.Cut(rest, "\n")
	return strings.TrimSpace(value)
}
