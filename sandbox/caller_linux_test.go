package sandbox

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/event"
)

func TestProcStatIsReadBehindAnyCommand(t *testing.T) {
	tail := " S 7 " + strings.Repeat("1 ", 17) + "4711 " + strings.Repeat("2 ", 25) + "1234 5 6 7 8"
	for _, comm := range []string{"sh", "a b", ") S 9 (", "((((", "))))"} {
		got, err := parseProcStat("42 (" + comm + ")" + tail)
		if err != nil || got != (procStat{7, "4711", "1234"}) {
			t.Errorf("%q: %+v, %v", comm, got, err)
		}
	}
	for _, bad := range []string{"", "42 (sh) S 7", "42 (sh) S x " + strings.Repeat("1 ", 50)} {
		if _, err := parseProcStat(bad); err == nil {
			t.Errorf("%q is read", bad)
		}
	}
}

func FuzzProcStat(f *testing.F) {
	f.Add("42 (sh) S 7 " + strings.Repeat("1 ", 50))
	f.Add("42 (a) b) R 1")
	f.Fuzz(func(t *testing.T, s string) {
		if got, err := parseProcStat(s); err == nil && (got.start == "" || got.args == "") {
			t.Errorf("%q: %+v", s, got)
		}
	})
}

// callerOf waits until a process is the one expected: execve(2) gives it its
// arguments after its program.
func callerOf(t *testing.T, c *callers, pid int, exe string) {
	t.Helper()
	for range 1000 {
		if p, _ := c.of(pid); p != nil && filepath.Base(string(p.Exe)) == exe && len(p.Argv) > 0 {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	p, _ := c.of(pid)
	t.Fatalf("%+v, want %s", p, exe)
}

func TestCallerThatExecutesAnotherProgramIsSeenAnew(t *testing.T) {
	cmd := exec.Command("sh", "-c", "read x; exec sleep 100")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer cmd.Process.Kill()
	sh, err := filepath.EvalSymlinks("/bin/sh")
	if err != nil {
		t.Fatal(err)
	}
	c := &callers{init: os.Getppid()}
	callerOf(t, c, cmd.Process.Pid, filepath.Base(sh))
	if _, err := in.Write([]byte("go\n")); err != nil {
		t.Fatal(err)
	}
	callerOf(t, c, cmd.Process.Pid, "sleep")
	p, ancestors := c.of(cmd.Process.Pid)
	// A new name comes before the new arguments (begin_new_exec in fs/exec.c).
	for end := time.Now().Add(10 * time.Second); len(p.Argv) < 2 && time.Now().Before(end); time.Sleep(time.Millisecond) {
		p, ancestors = c.of(cmd.Process.Pid)
	}
	if len(p.Argv) != 2 || p.Argv[1] != "100" || p.PID != cmd.Process.Pid || len(ancestors) != 1 || ancestors[0].PID != os.Getpid() {
		t.Errorf("%+v, %+v", p, ancestors)
	}
}

func TestAProcessInTheMiddleOfExecveIsNotRemembered(t *testing.T) {
	argv := []event.Text{"sh"}
	for name, tt := range map[string]struct {
		caller caller
		want   bool
	}{
		"whole":          {caller{process: event.Process{Argv: argv}, ancestors: []event.Process{{Argv: argv}}}, false},
		"an empty one":   {caller{process: event.Process{Argv: []event.Text{""}}}, true},
		"no arguments":   {caller{ancestors: []event.Process{{Argv: argv}}}, true},
		"a parent's are": {caller{process: event.Process{Argv: argv}, ancestors: []event.Process{{Argv: argv}, {}}}, true},
	} {
		if got := tt.caller.halfway(); got != tt.want {
			t.Errorf("%s: %t", name, got)
		}
	}
}

func TestThreadsAreTheirProcess(t *testing.T) {
	tids, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	c := &callers{}
	for _, e := range tids {
		tid, _ := strconv.Atoi(e.Name())
		if p, _ := c.of(tid); p != nil && p.PID != os.Getpid() {
			t.Errorf("thread %d is process %d", tid, p.PID)
		}
	}
	if p, ancestors := c.of(1 << 30); p != nil || ancestors != nil {
		t.Errorf("a thread that is not there: %+v", p)
	}
}

func TestRememberedCallersAreBounded(t *testing.T) {
	c := &callers{known: map[int]*caller{}}
	for i := range maxCallers {
		c.known[-i] = &caller{thread: procThread{-1, -1}}
	}
	if p, _ := c.of(os.Getpid()); p == nil || len(c.known) > maxCallers {
		t.Errorf("%d remembered", len(c.known))
	}
	c.close()
	if len(c.known) > 0 {
		t.Errorf("%d remembered after the end", len(c.known))
	}
}

func TestSignalThatWaitsInterrupts(t *testing.T) {
	cmd := exec.Command("sleep", "100")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer cmd.Process.Kill()
	if interrupted(cmd.Process.Pid) {
		t.Error("interrupted by nothing")
	}
}
