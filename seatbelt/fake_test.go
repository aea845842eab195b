package seatbelt

import (
	"os"
	"os/exec"
	"slices"
	"sync"
	"testing"

	"github.com/sallyport/sallyport/internal/fakemac"
)

func TestMain(m *testing.M) {
	fakemac.Main()
	os.Exit(m.Run())
}

// fakes is an Exec that starts the fakes, and remembers what it started.
type fakes struct {
	t    testing.TB
	dir  string
	mu   sync.Mutex
	mode string
	ran  []Command
	all  []Process
}

func newFakes(t testing.TB, mode string) *fakes {
	f := &fakes{t: t, dir: t.TempDir(), mode: mode}
	f.report() // the file exists
	t.Cleanup(func() {
		for _, p := range f.all {
			if err := p.Kill(); err == nil {
				t.Errorf("%v was still running", p.(*process).cmd.Args)
			}
		}
	})
	return f
}

func (f *fakes) Start(c Command) (Process, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ran = append(f.ran, c)
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(exe, c.Args...)
	cmd.Env = append(slices.Clone(c.Env), fakemac.Env(c.Path, f.dir, f.mode)...)
	p, err := StartProcess(cmd)
	if err == nil && c.Path == logProgram {
		f.all = append(f.all, p)
	}
	return p, err
}

func (f *fakes) setMode(mode string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.mode = mode
}

// started gives the arguments of every program of one name.
func (f *fakes) started(path string) (args [][]string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range f.ran {
		if c.Path == path {
			args = append(args, c.Args)
		}
	}
	return args
}

// report appends lines to what the kernel has said.
func (f *fakes) report(lines ...string) { fakemac.Append(f.dir, lines...) }

func logEntry(pid int, process, message string) string { return fakemac.Entry(pid, process, message) }
func kernelSays(text string) string                    { return fakemac.KernelSays(text) }
