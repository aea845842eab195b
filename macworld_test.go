//go:build linux || darwin

package sallyport

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/event"
	"github.com/sallyport/sallyport/internal/fakemac"
	"github.com/sallyport/sallyport/internal/policy"
	"github.com/sallyport/sallyport/seatbelt"
)

// macWorld is a Mac whose programs are played by this test binary: nothing is
// enforced, but all that a run does is done for real.
type macWorld struct {
	t        *testing.T
	dir      string
	mode     string
	policy   string            // a file
	exe      string            // sallyport; empty: this test binary
	during   func(w *macWorld) // called when the command has been started
	timeout  time.Duration
	looked   atomic.Int64 // how often for processes
	mu       sync.Mutex
	launched *seatbelt.Launch   // the command
	guests   []*seatbelt.Launch // what was started beside it
	over     bool               // the run has ended
	pid      int
	stopped  int // times that this process was to be stopped
	tag      string
	warned   []string
	events   []event.Event
}

func newMacWorld(t *testing.T, mode, yaml string) *macWorld {
	t.Helper()
	home := t.TempDir()
	t.Setenv("HOME", home)
	t.Setenv("XDG_STATE_HOME", "")
	t.Setenv("XDG_CONFIG_HOME", "")
	t.Setenv("TMPDIR", t.TempDir())
	w := &macWorld{t: t, dir: t.TempDir(), mode: mode, policy: filepath.Join(home, "p.yaml")}
	fakemac.Append(w.dir)
	if yaml == "" {
		yaml = "network: {}\n"
	}
	if err := os.WriteFile(w.policy, []byte(yaml), 0o600); err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *macWorld) Start(c seatbelt.Command) (seatbelt.Process, error) {
	cmd := exec.Command(testBinary(w.t), c.Args...)
	cmd.Env = append(slices.Clone(c.Env), fakemac.Env(c.Path, w.dir, w.mode)...)
	return seatbelt.StartProcess(cmd)
}

func testBinary(t *testing.T) string {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return exe
}

var tagIn = regexp.MustCompile(`\(deny default \(with message "([^"]+)"\)\)`)

func (w *macWorld) Launch(l seatbelt.Launch) (*seatbelt.Payload, error) {
	w.mu.Lock()
	as := &seatbelt.Launch{Path: l.Path, Args: l.Args, Env: l.Env, Dir: l.Dir}
	first := w.launched == nil || w.over
	if w.over = false; first {
		w.launched = as
	} else {
		w.guests = append(w.guests, as)
	}
	w.tag = tagIn.FindStringSubmatch(l.Args[1])[1]
	w.mu.Unlock()
	l.Env = append(slices.Clone(l.Env), fakemac.Env(l.Path, w.dir, w.mode)...)
	l.Path = testBinary(w.t)
	p, err := seatbelt.StartPayload(l)
	if err == nil && first {
		w.mu.Lock()
		w.pid = p.PID()
		w.mu.Unlock()
	}
	if err == nil && first && w.during != nil {
		go w.during(w)
	}
	return p, err
}

func (w *macWorld) Processes() ([]seatbelt.Proc, error) {
	defer w.looked.Add(1)
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	var out []seatbelt.Proc
	for _, s := range stats {
		b, err := os.ReadFile(s)
		if err != nil {
			continue // ended
		}
		after := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(s)))
		parent, _ := strconv.Atoi(after[1])
		start, _ := strconv.ParseInt(after[19], 10, 64)
		if after[0] != "Z" {
			out = append(out, seatbelt.Proc{PID: pid, Parent: parent, Start: start})
		}
	}
	return out, err
}

func (w *macWorld) Kill(p seatbelt.Proc) error { return syscall.Kill(p.PID, syscall.SIGKILL) }
func (w *macWorld) BootID() string             { return "boot" }

// Stop finds the command stopped, and continues this process, which was not.
func (w *macWorld) Stop() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stopped++
	waitUntil(w.t, func() bool {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", w.pid))
		return err == nil && strings.Contains(string(stat), ") T ")
	})
	return syscall.Kill(os.Getpid(), syscall.SIGCONT)
}

func waitUntil(t *testing.T, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Error("did not happen")
			return
		}
	}
}

// waitFile waits until there is a file of a name where the command runs.
func (w *macWorld) waitFile(name string) {
	waitUntil(w.t, func() bool {
		_, err := os.Stat(filepath.Join(w.dir, name))
		return err == nil
	})
}

func (w *macWorld) run(ctx context.Context, command ...string) (*Result, error) {
	w.t.Helper()
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		w.t.Fatal(err)
	}
	defer null.Close()
	stdin, other, err := os.Pipe()
	if err != nil {
		w.t.Fatal(err)
	}
	defer stdin.Close()
	defer other.Close()
	defer func() { w.mu.Lock(); w.over = true; w.mu.Unlock() }()
	return runMac(ctx, w, Options{Command: command, Dir: w.dir, Name: "trial", Policy: LoadOptions{Files: []string{w.policy}, Env: policy.Env{Exe: w.exe}},
		Stdin: stdin, Stdout: null, Stderr: null, Timeout: w.timeout,
		OnEvent: func(e Event) { w.mu.Lock(); w.events = append(w.events, e); w.mu.Unlock() },
		Warn:    func(m, h string) { w.mu.Lock(); w.warned = append(w.warned, m+": "+h); w.mu.Unlock() }})
}

// env gives a variable of the command's.
func (w *macWorld) env(name string) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, e := range w.launched.Env {
		if v, ok := strings.CutPrefix(e, name+"="); ok {
			return v
		}
	}
	return ""
}

// denies makes the kernel report a refusal of the run's.
func (w *macWorld) denies(pid int, op, target string) {
	fakemac.Append(w.dir, fakemac.KernelSays(fmt.Sprintf("Sandbox: sh(%d) deny(1) %s %s\n%s", pid, op, target, w.tag)))
}

// untilDone is a command that ends when its file "done" is there.
const untilDone = `while [ ! -e done ]; do sleep 0.01; done; exit 3`

func (w *macWorld) done() {
	if err := os.WriteFile(filepath.Join(w.dir, "done"), nil, 0o600); err != nil {
		w.t.Error(err)
	}
}
