package loader

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/cgroup"
	"github.com/sallyport/sallyport/internal/event"
)

// payloads are what the test binary does when it is started inside a sandbox.
var payloads = map[string]func(args []string) int{}

func TestMain(m *testing.M) {
	Init()
	if name := os.Getenv("LOADER_PAYLOAD"); name != "" {
		os.Exit(payloads[name](os.Args[1:]))
	}
	status := m.Run()
	if common.close != nil {
		common.close()
	}
	os.Exit(status)
}

// everything are rules that allow all that a sandbox may ever do.
var everything = Rules{TCP: true, UDP: true, Ping: true, MPTCP: true, UnixDirs: []string{"/tmp", "/run"}}

// story is what was read so far.
type story struct {
	mu   sync.Mutex
	seen []Record
	lost map[event.Operation]uint64
}

func (s *story) Denied(r Record) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen = append(s.seen, r)
}

func (s *story) Lost(op event.Operation, n uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lost[op] += n
}

// world is a parent cgroup with the programs attached.
type world struct {
	*story
	t      *testing.T
	l      *Loader
	parent string
	stop   func()
}

func needRoot(t testing.TB) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("loading programs takes root")
	}
}

// parentGroup makes a cgroup of the test's own.
func parentGroup(t testing.TB) string {
	t.Helper()
	needRoot(t)
	mount, err := cgroup.Mount()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp(mount, "loader-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		g, err := cgroup.Open(dir)
		if err == nil {
			err = g.Kill(5 * time.Second)
		}
		if err == nil {
			err = g.Remove()
		}
		if err != nil {
			t.Errorf("clean up: %v", err)
		}
	})
	return dir
}

func newWorld(t *testing.T, o Options) *world {
	t.Helper()
	w := &world{t: t, story: &story{lost: map[event.Operation]uint64{}}}
	if o.Cgroup == "" {
		o.Cgroup = parentGroup(t)
	}
	w.parent = o.Cgroup
	var err error
	if w.l, err = Load(o); err != nil {
		t.Fatalf("%+v", err)
	}
	w.read()
	t.Cleanup(w.close)
	return w
}

// common is the world of all tests that look at nothing but sandboxes of their
// own: loading takes seconds on some kernels and machines.
var common struct {
	once  sync.Once
	world *world
	close func()
}

func sharedWorld(t *testing.T) *world {
	t.Helper()
	needRoot(t)
	common.once.Do(func() {
		mount := must(cgroup.Mount())
		dir := must(os.MkdirTemp(mount, "loader-test-"))
		w := &world{t: t, parent: dir, story: &story{lost: map[event.Operation]uint64{}}}
		var err error
		if w.l, err = Load(Options{Cgroup: dir}); err != nil {
			t.Errorf("%+v", err)
			return
		}
		w.read()
		common.world = w
		common.close = func() {
			w.stop()
			w.l.Close()
			if g, err := cgroup.Open(dir); err == nil {
				g.Kill(5 * time.Second)
				g.Remove()
			}
		}
	})
	if common.world == nil {
		t.Fatal("the programs could not be loaded")
	}
	mine := *common.world
	mine.t = t
	return &mine
}

// read starts a reader.
func (w *world) read() {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.l.Read(ctx, w) }()
	for running := false; !running; time.Sleep(time.Millisecond) {
		w.l.reader.mu.Lock()
		running = w.l.reader.running
		w.l.reader.mu.Unlock()
	}
	w.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			w.t.Errorf("read: %v", err)
		}
	})
}

func (w *world) close() {
	w.stop()
	if err := w.l.Close(); err != nil {
		w.t.Errorf("close: %v", err)
	}
}

// box is a sandbox's cgroup.
type testBox struct {
	*cgroup.Group
	w *world
}

func (w *world) add(rules Rules) *testBox {
	w.t.Helper()
	b := w.addOnly(rules)
	if err := w.l.Start(b.Info.ID, nil); err != nil {
		w.t.Fatal(err)
	}
	return b
}

// addOnly does not start recording.
func (w *world) addOnly(rules Rules) *testBox {
	w.t.Helper()
	g, err := cgroup.Make(w.parent, fmt.Sprintf("box-%d", time.Now().UnixNano()))
	if err != nil {
		w.t.Fatal(err)
	}
	if err := w.l.AddSandbox(g.Info.ID, rules); err != nil {
		w.t.Fatal(err)
	}
	guard := time.AfterFunc(4*time.Minute, func() { g.Kill(time.Second) }) // nothing may hang
	w.t.Cleanup(func() {
		guard.Stop()
		g.Kill(time.Second)
		_ = w.l.RemoveSandbox(g.Info.ID) // the test may have done it
		g.Remove()
	})
	return &testBox{g, w}
}

// command prepares a program to be started inside.
func (b *testBox) command(name string, args ...string) *exec.Cmd {
	b.w.t.Helper()
	dir, err := os.Open(b.Dir)
	if err != nil {
		b.w.t.Fatal(err)
	}
	b.w.t.Cleanup(func() { dir.Close() })
	if name == "python3" {
		name = python(b.w.t)
	}
	cmd := exec.Command(name, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(dir.Fd())}
	cmd.Stderr = os.Stderr
	return cmd
}

// python finds the interpreter itself. What PATH gives may be a version
// manager's script, and a shell that starts asks for nscd: records that no test
// has made.
func python(t testing.TB) string {
	t.Helper()
	out, err := exec.Command("python3", "-S", "-c", "import sys; print(sys.executable)").Output()
	if err != nil {
		t.Fatalf("find python3: %v", err)
	}
	return strings.TrimSpace(string(out))
}

// records gives what happened so far in this sandbox.
func (b *testBox) records() []Record {
	b.w.l.Flush()
	b.w.mu.Lock()
	defer b.w.mu.Unlock()
	var out []Record
	for _, r := range b.w.seen {
		if r.Cgroup == b.Info.ID {
			out = append(out, r)
		}
	}
	return out
}

// scratchDir is a folder on a real file system, out of anybody's way.
func scratchDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/var/tmp", "loader-test-")
	if err != nil {
		t.Fatal(err)
	}
	if dir, err = filepath.EvalSymlinks(dir); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}
