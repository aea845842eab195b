package e2e

import (
	"math/rand/v2"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A Ctrl-C that is typed while a run starts ends it, whenever it is typed: the
// sleep would take far longer than the test.
func TestCtrlCIsNotLostWhileARunStarts(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	h := newHome(t)
	for range 20 {
		s := h.onScreen("sleep", "777")
		after := time.Duration(rnd.IntN(50_000)) * time.Microsecond
		time.Sleep(after)
		s.types(ctrlC)
		select {
		case <-s.ended:
		case <-time.After(10 * time.Second):
			t.Errorf("Ctrl-C after %s was lost; on the screen: %q", after, s.text())
			return
		}
		if ws := s.cmd.ProcessState.Sys().(syscall.WaitStatus); ws.ExitStatus() != 130 && ws.Signal() != syscall.SIGINT {
			t.Errorf("Ctrl-C after %s: %s\n%s", after, s.cmd.ProcessState, s.text())
		}
		if strings.Contains(s.text(), "error") {
			t.Errorf("Ctrl-C after %s: %s", after, s.text())
		}
	}
}

// A killed supervisor cannot put the terminal back. An interactive shell does
// when a job of its own was killed.
func TestAShellHasItsTerminalBackFromAKilledRun(t *testing.T) {
	h := newHome(t)
	s := h.shellOnScreen()
	s.types("sp sh -c 'echo up; exec sleep 777'\r").wants("up\r\n")
	until(t, "the terminal to be raw", func() bool { m := s.mode(); return m.Lflag&(unix.ICANON|unix.ECHO) == 0 })
	for pid, p := range below(processes(t), s.cmd.Process.Pid) {
		if strings.HasPrefix(p.args, binary+" run") {
			_ = unix.Kill(pid, unix.SIGKILL)
		}
	}
	s.wants("ready$ ").types("stty -a | grep -o '[-]*icanon\\|[-]*opost\\|[-]*isig' | tr '\\n' .\r")
	s.wants("isig.").wants("icanon.")
	if text := s.text(); strings.Contains(text, "-icanon.") || strings.Contains(text, "-isig.") || strings.Contains(text, "-opost.") {
		t.Errorf("the terminal is left raw:\n%s", text)
	}
}
