package e2e

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// process is what /proc says of one.
type process struct {
	pid, parent int
	name        string
	zombie      bool
	args        string
}

func processes(t *testing.T) map[int]process {
	t.Helper()
	entries, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	all := map[int]process{}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		stat, err := os.ReadFile("/proc/" + e.Name() + "/stat")
		open, end := strings.IndexByte(string(stat), '('), strings.LastIndexByte(string(stat), ')')
		if err != nil || end < 0 {
			continue // gone
		}
		args, _ := os.ReadFile("/proc/" + e.Name() + "/cmdline")
		p := process{pid: pid, name: string(stat[open+1 : end]), args: strings.ReplaceAll(string(args), "\x00", " ")}
		var state string
		fmt.Sscan(string(stat[end+1:]), &state, &p.parent)
		p.zombie = state == "Z" || state == "X"
		all[pid] = p
	}
	return all
}

// descendants lists the living processes below this one. Those whose parent
// dies fall to it (PR_SET_CHILD_SUBREAPER), so that none escapes the list.
func descendants(t *testing.T) map[int]process {
	t.Helper()
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		t.Fatal(err)
	}
	return below(processes(t), os.Getpid())
}

func below(all map[int]process, root int) map[int]process {
	out := map[int]process{}
	for pid, p := range all {
		for q, ok := p, true; ok && !p.zombie; q, ok = all[q.parent] {
			if q.parent == root {
				out[pid] = p
				break
			}
		}
	}
	return out
}

// nothingLeft fails the test if there are processes that were not there before.
func (h *home) nothingLeft(before map[int]process) {
	h.t.Helper()
	h.t.Cleanup(reapOrphans)
	var left []process
	for start := time.Now(); ; time.Sleep(5 * time.Millisecond) {
		left = nil
		limit := 20 * time.Second
		for pid, p := range descendants(h.t) {
			if _, ok := before[pid]; !ok {
				left = append(left, p)
				if !strings.HasPrefix(p.args, "sallyport: keeper") { // it clears up behind the others
					limit = soon()
				}
			}
		}
		if len(left) == 0 {
			return
		}
		if time.Since(start) > limit {
			break
		}
	}
	h.t.Errorf("processes are left after %s: %+v", soon(), left)
	for _, p := range left {
		_ = unix.Kill(p.pid, unix.SIGKILL)
	}
}

// reapOrphans takes what fell to this process; children that somebody waits for
// are running by then.
func reapOrphans() {
	for {
		pid, err := unix.Wait4(-1, nil, unix.WNOHANG, nil)
		if pid <= 0 || errors.Is(err, unix.ECHILD) {
			return
		}
	}
}

// victims of a crash: who is killed, found among the descendants.
var victims = map[string]func(p process, supervisor int) bool{
	"supervisor": func(p process, supervisor int) bool { return p.pid == supervisor },
	"stage 1":    func(p process, _ int) bool { return p.name == "sallyport-1" },
	"bubblewrap": func(p process, _ int) bool { return p.name == "bwrap" },
	"stage 2":    func(p process, _ int) bool { return strings.HasPrefix(p.args, "/run/sallyport/init") },
}

func TestPlaceholdersOfACrashedRunAreSweptByTheNext(t *testing.T) {
	h := newHome(t)
	h.repository()
	cmd := h.command(t.Context(), "run", "--", "sh", "-c", "touch ready; sleep 777")
	before := descendants(t)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the command", func() bool { _, err := os.Stat(h.work + "/ready"); return err == nil })
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	h.nothingLeft(before)
	if _, err := os.Lstat(h.work + "/.git/commondir"); err != nil {
		t.Fatal("no placeholder is left by the crash: this tests nothing")
	}
	h.outside("git status --short")
	h.run("true").ok()
	h.noPlaceholders()
}

func TestAKilledBubblewrapIsAnErrorOfSallyport(t *testing.T) {
	h := newHome(t)
	h.repository()
	for _, victim := range []string{"bubblewrap", "stage 2"} {
		before := descendants(t)
		os.Remove(h.work + "/ready")
		cmd := h.command(t.Context(), "run", "--", "sh", "-c", "touch ready; sleep 777")
		var errOut strings.Builder
		cmd.Stderr = &errOut
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		waitFor(t, "the command", func() bool { _, err := os.Stat(h.work + "/ready"); return err == nil })
		for _, p := range descendants(t) {
			if victims[victim](p, 0) {
				_ = unix.Kill(p.pid, unix.SIGKILL)
			}
		}
		_ = cmd.Wait()
		if code := cmd.ProcessState.ExitCode(); code != 125 || !strings.Contains(errOut.String(), "sallyport: error: ") {
			t.Errorf("%s killed: exit status %d\n%s", victim, code, errOut.String())
		}
		h.nothingLeft(before)
		h.noPlaceholders()
	}
}

func TestSignalsReachTheCommand(t *testing.T) {
	h := newHome(t)
	for name, test := range map[string]struct {
		script string
		signal syscall.Signal
		code   int
		out    string
	}{
		"caught":      {"trap 'echo got TERM; exit 3' TERM; touch ready; while :; do sleep 0.05; done", syscall.SIGTERM, 3, "got TERM\n"},
		"interrupt":   {"trap 'echo got INT; exit 4' INT; touch ready; while :; do sleep 0.05; done", syscall.SIGINT, 4, "got INT\n"},
		"not caught":  {"touch ready; exec sleep 777", syscall.SIGTERM, 143, ""},
		"interrupted": {"touch ready; exec sleep 777", syscall.SIGINT, 130, ""},
		"user":        {"trap 'echo got USR1; exit 5' USR1; touch ready; while :; do sleep 0.05; done", syscall.SIGUSR1, 5, "got USR1\n"},
	} {
		os.Remove(h.work + "/ready")
		before := descendants(t)
		cmd := h.command(t.Context(), "run", "--", "sh", "-c", test.script)
		var out strings.Builder
		cmd.Stdout = &out
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		waitFor(t, name, func() bool { _, err := os.Stat(h.work + "/ready"); return err == nil })
		_ = cmd.Process.Signal(test.signal)
		_ = cmd.Wait()
		if code := cmd.ProcessState.ExitCode(); code != test.code || out.String() != test.out {
			t.Errorf("%s: exit status %d, output %q", name, code, out.String())
		}
		h.nothingLeft(before)
	}
}

func TestBackgroundProcessesEndWithTheCommand(t *testing.T) {
	h := newHome(t)
	before := descendants(t)
	h.sh("setsid sleep 777 >/dev/null 2>&1 & (trap '' TERM HUP; sleep 777) >/dev/null 2>&1 & exit 0").ok()
	h.nothingLeft(before)
}
