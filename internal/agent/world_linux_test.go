package agent

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/audit"
	"github.com/sallyport/sallyport/internal/event"
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

// patience is long for a virtual machine without KVM on a host that is busy.
const patience = 2 * time.Minute

// until waits for a condition.
func until(t testing.TB, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !f(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: not within %s", what, patience)
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
