package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// isStopped says whether all threads of a process have stopped: their process has
// not before.
func isStopped(pid int) bool {
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	for _, f := range files {
		stat, err := os.ReadFile(f)
		end := strings.LastIndexByte(string(stat), ')')
		if err != nil || end < 0 || strings.Fields(string(stat[end+1:]))[0] != "T" {
			return false
		}
	}
	return len(files) > 0
}

// stops waits until the payload, a process with these arguments, is stopped,
// and then sallyport.
func (s *screen) stops(args string) {
	s.t.Helper()
	for _, args := range []string{args, binary + " run"} {
		until(s.t, args+" stopped", func() bool {
			for pid, p := range below(processes(s.t), s.cmd.Process.Pid) {
				if strings.HasPrefix(p.args, args) {
					return isStopped(pid)
				}
			}
			return false
		})
	}
}

func TestCtrlZStopsTheRunAndFgContinuesIt(t *testing.T) {
	h := newHome(t)
	s := h.shellOnScreen()
	s.types("sp sh -c 'echo up; while read x; do echo \"got $x\"; done'\r").wants("up\r\n").types("one\r").wants("got one")
	for range 3 {
		s.types(ctrlZ).wants("Stopped").wants("ready$ ")
		s.types("echo out''side\r").wants("outside\r\n").wants("ready$ ")
		s.stops("sh -c echo up")
		s.types("fg\r").wants("fg\r\n").types("two\r").wants("two\r\n").wants("got two")
	}
	s.types(ctrlD).wants("ready$ ").types("echo status $?\r").wants("status 0").wants("ready$ ").types("exit\r").exits(0)
}

func TestAStoppedRunGoesOnInTheBackground(t *testing.T) {
	h := newHome(t)
	s := h.shellOnScreen()
	s.types("sp sh -c 'echo up; until [ -e go ]; do :; done; echo went on; read x; echo \"got $x\"'\r").wants("up\r\n")
	s.types(ctrlZ).wants("Stopped").wants("ready$ ").types("bg\r").wants("ready$ ")
	h.write("work/go", "")
	s.wants("went on")
	s.stops("sh -c echo up")
	s.types("fg\r").wants("fg\r\n").types("typed\r").wants("got typed").wants("ready$ ").types("exit\r").exits(0)
}

func TestARunInTheBackgroundIsStoppedWhenItReads(t *testing.T) {
	h := newHome(t)
	s := h.shellOnScreen()
	s.types("sp sh -c 'echo up; read x; echo \"got $x\"' &\r").wants("up\r\n")
	s.stops("sh -c echo up")
	s.types("jobs\r").wants("Stopped").wants("ready$ ")
	s.types("fg\r").wants("fg\r\n").types("typed\r").wants("got typed").wants("ready$ ")
	s.types("exit\r").exits(0)
}

func TestAStoppedRunCanBeKilled(t *testing.T) {
	h := newHome(t)
	before := descendants(t)
	s := h.shellOnScreen()
	s.types("sp sh -c 'echo up; exec sleep 604'\r").wants("up\r\n").types(ctrlZ).wants("Stopped").wants("ready$ ")
	s.types("kill %1; fg\r").wants("ready$ ").types("echo status $?\r").wants("status 143").wants("ready$ ").types("exit\r").exits(0)
	h.nothingLeft(before)
}

func TestJobControlWorksInside(t *testing.T) {
	h := newHome(t)
	need(t, "bash")
	h.env = append(h.env, "PS1=in$ ")
	s := h.onScreen("bash", "--norc", "--noprofile", "-i").wants("$ ")
	s.types("PS1='inside$ '\r").wants("\x1b[?2004hinside$ ")
	s.types("sh -c 'echo as''leep; exec sleep 605'\r").wants("asleep\r\n").types(ctrlZ).wants("Stopped").wants("inside$ ")
	if s.cmd.ProcessState != nil || isStopped(s.cmd.Process.Pid) {
		t.Error("the run stopped with its shell's job")
	}
	s.types("jobs\r").wants("sleep 605").wants("inside$ ").types("fg\r").wants("sleep 605").types(ctrlC).wants("^C").wants("inside$ ")
	s.types("sleep 0.3 &\r").wants("inside$ ").types("wait; echo wai''ted\r").wants("waited").wants("inside$ ")
	s.types("suspend\r").types("exit 7\r").exits(7) // with no shell to continue it, it goes on
}

func TestARunInAPipelineLeavesTheTerminalToOthers(t *testing.T) {
	need(t, "less")
	h := newHome(t)
	h.write("work/list", strings.Repeat("line\n", 400)+"the end\n")
	s := h.shellOnScreen()
	s.types("sp cat list | less\r").wants("line\r\n").types("G").wants("the end").types("q").wants("ready$ ")
	s.types("cat list | sp less\r").wants("line\r\n").types("G").wants("the end").types("q").wants("ready$ ")
	s.types("sp sh -c 'cat >typed; echo d''one >&2' >out\r").types("text\r" + ctrlD).wants("done").wants("ready$ ")
	if got := h.read("work/typed"); got != "text\n" {
		t.Errorf("typed %q", got)
	}
	s.types("sp cat list >out; cmp list out && echo sa''me\r").wants("same").wants("ready$ ")
	s.types("cat list | sp cat | cmp list - && echo eq''ual\r").wants("equal").wants("ready$ ")
	// Only when it is there: a key that comes while it starts is another matter.
	s.types("sp sh -c 'echo u''p >&2; exec sleep 606' | cat\r").wants("up\r\n").types(ctrlC).wants("ready$ ").types("exit\r").exits(130)
}
