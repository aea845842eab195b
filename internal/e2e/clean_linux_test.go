package e2e

import (
	"os"
	"strings"
	"testing"
)

func TestDoctorCleansUpAfterACrash(t *testing.T) {
	h := newHome(t)
	h.repository()
	before := descendants(t)
	killed := h.start("killed", "sleep", "617")
	stub := h.work + "/.git/commondir"
	waitFor(t, "the placeholder", func() bool { _, err := os.Lstat(stub); return err == nil })
	_ = killed.Process.Kill()
	<-killed.ended
	waitFor(t, "the end of the command", func() bool { return countArgs(descendants(t), "sleep 617") == 0 })
	out := h.sallyport("doctor", "--clean").ok().out
	if !strings.Contains(out, "removed \""+stub+"\"\n") || !strings.Contains(out, killed.ID) {
		t.Errorf("it says %q", out)
	}
	h.noPlaceholders()
	if out := h.sallyport("doctor", "--clean").ok().out; out != "nothing was left\n" {
		t.Errorf("again, it says %q", out)
	}
	h.nothingLeft(before)
}
