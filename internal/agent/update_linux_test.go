package agent

import (
	"strings"
	"syscall"
	"testing"

	"github.com/sallyport/sallyport/internal/event"
)

// shas lists the policies under which a sandbox's events are, in order.
func shas(list []event.Event, id string) (out []string) {
	for _, e := range list {
		if e.Sandbox.ID == id && (len(out) == 0 || out[len(out)-1] != e.Sandbox.PolicySHA256) {
			out = append(out, e.Sandbox.PolicySHA256)
		}
	}
	return out
}

func TestWhatFollowsAnUpdateIsRecordedUnderTheNewPolicy(t *testing.T) {
	w, a := processWorld(t)
	u, id := w.sandbox(4001)
	u.do("report", 1)
	u.do("settle", 0)
	before := shas(w.records(), id)
	good := u.try(order{Op: "update", Text: "network: {allowedDomains: [a.example]}"})
	if good.Err != "" || len(good.Text) != 64 || good.Text == before[0] {
		t.Fatalf("updated: %+v, was %q", good, before)
	}
	for _, bad := range []string{"network: {allowedDomain: [a.example]}", "", "network: {}\n#" + strings.Repeat("x", policyBytes)} {
		if r := u.try(order{Op: "update", Text: bad}); r.Err == "" {
			t.Errorf("%.40q is taken", bad)
		}
	}
	u.do("report", 1)
	u.do("refused", 1)
	u.do("settle", 0)
	if err := a.Process.Signal(syscall.SIGKILL); err != nil { // its successor knows
		t.Fatal(err)
	}
	_ = a.Wait()
	w.process()
	u.do("report", 1)
	u.do("settle", 0)
	u.do("end", 0)
	if got := shas(w.records(), id); len(got) != 2 || got[0] != before[0] || got[1] != good.Text {
		t.Errorf("recorded under %q, want %q and %q", got, before, good.Text)
	}
}
