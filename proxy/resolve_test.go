package proxy

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/event"
)

func TestNameIsNotLookedUpAgainAtOnce(t *testing.T) {
	r := newRig(t, allowing("ok.test"), func(c *Config) { c.Limits.ResolveFor = time.Hour })
	r.outside("ok.test", 7000, serveTCP(t, echo))
	for range 5 {
		if _, resp, body := r.connectTo("ok.test:7000"); resp.StatusCode != 200 {
			t.Fatal(resp.Status, body)
		}
	}
	if resolved, dialled := r.wentOutside(); len(resolved) != 1 || len(dialled) != 5 {
		t.Errorf("looked up %v, dialled %v", resolved, dialled)
	}
	r.connectTo("gone.test:7000")
	r.wantDenial(event.NotAllowed)
}

func TestFailedLookUpIsNotRemembered(t *testing.T) {
	r := newRig(t, allowing("ok.test"), func(c *Config) { c.Limits.ResolveFor = time.Hour })
	if _, resp, _ := r.connectTo("ok.test:7000"); resp.StatusCode != 502 {
		t.Fatal(resp.Status)
	}
	r.outside("ok.test", 7000, serveTCP(t, echo))
	if _, resp, body := r.connectTo("ok.test:7000"); resp.StatusCode != 200 {
		t.Error(resp.Status, body)
	}
}

func TestRememberedAddressesAreDecidedAnew(t *testing.T) {
	r := newRig(t, allowing("ok.test", "10.0.0.1:7000"), func(c *Config) { c.Limits.ResolveFor = time.Hour })
	r.resolves("ok.test", "10.0.0.1")
	r.servers["10.0.0.1:7000"] = serveTCP(t, echo)
	if _, resp, body := r.connectTo("ok.test:7000"); resp.StatusCode != 200 {
		t.Fatal(resp.Status, body)
	}
	if _, resp, _ := r.connectTo("ok.test:7001"); resp.StatusCode != 403 {
		t.Error(resp.Status)
	}
	if resolved, _ := r.wentOutside(); len(resolved) != 1 {
		t.Errorf("looked up %v", resolved)
	}
	r.wantDenial(event.AddressDenied)
}

func TestAnswersAreForgottenAndBounded(t *testing.T) {
	var a answers
	addr := []netip.Addr{netip.MustParseAddr("192.0.2.1")}
	a.put("old.test", addr, -time.Second)
	if a.get("old.test") != nil || a.get("new.test") != nil {
		t.Error("an answer that is none")
	}
	for i := range 3 * maxAnswers {
		a.put(fmt.Sprint(i), addr, time.Hour)
	}
	if len(a.by) > maxAnswers {
		t.Errorf("%d answers", len(a.by))
	}
	got := a.get(fmt.Sprint(3*maxAnswers - 1))
	got[0] = netip.Addr{} // the caller's own
	if again := a.get(fmt.Sprint(3*maxAnswers - 1)); len(again) != 1 || again[0] != addr[0] {
		t.Errorf("got %v", again)
	}
}
