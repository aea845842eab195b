package e2e

import (
	"strings"
	"testing"

	"github.com/sallyport/sallyport/internal/event"
)

func TestAllowedNamesAreReachedAndNothingElse(t *testing.T) {
	h := newHome(t).allow("allowed.test")
	r := h.run("curl", "-sS", "http://allowed.test/x").ok()
	if !strings.Contains(r.out, "hello from allowed.test/x") {
		t.Errorf("got %q", r.out)
	}
	r = h.run("curl", "-sS", "--fail", "http://denied.test/").refused()
	e := r.recorded(event.NetConnect, host("denied.test"))
	if e.Process == nil || string(e.Process.Comm) != "curl" || len(e.Process.Argv) == 0 {
		t.Errorf("denied to %+v, want curl", e.Process)
	}
	if n := internet.reached("dns denied.test"); n != 0 {
		t.Errorf("a denied name was looked up outside %d times", n)
	}
}
