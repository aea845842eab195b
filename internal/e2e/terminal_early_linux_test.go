package e2e

import (
	"math/rand/v2"
	"strings"
	"syscall"
	"testing"
	"time"
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
