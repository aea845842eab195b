package audit

import (
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/event"
)

func TestFilterConditions(t *testing.T) {
	denied := at(0)
	denied.Sandbox = event.Sandbox{ID: "ab12", Name: "build"}
	denied.First, denied.Last, denied.Count = noon.Add(-4*time.Second), noon.Add(-time.Second), 9
	allowed := at(0)
	allowed.Verdict, allowed.Reason = event.Allow, event.RuleAllowed
	system := at(0)
	system.Reason, system.Layer, system.Operation = event.System, event.LayerLSM, event.FileRead
	system.Object = event.Object{Path: "/etc/ssl/private/key.pem"}
	lossy := allowed
	lossy.LostSinceLast = 1
	literal := at(0)
	literal.Object = event.Object{Addr: "10.0.0.1", Port: 25}
	literal.Process = nil

	for _, tt := range []struct {
		name   string
		filter Filter
		event  event.Event
		want   bool
	}{
		{"nothing asked", Filter{}, allowed, true},
		{"since its time", Filter{Since: noon}, denied, true},
		{"since later", Filter{Since: noon.Add(1)}, denied, false},
		{"since its last attempt's time", Filter{Since: noon.Add(-time.Second)}, denied, true},
		{"until its first attempt", Filter{Until: noon.Add(-4 * time.Second)}, denied, true},
		{"until earlier", Filter{Until: noon.Add(-5 * time.Second)}, denied, false},
		{"verdict", Filter{Verdicts: []event.Verdict{event.Allow, event.Deny}}, denied, true},
		{"other verdict", Filter{Verdicts: []event.Verdict{event.Allow}}, denied, false},
		{"operation", Filter{Operations: []event.Operation{event.NetConnect}}, denied, true},
		{"other operation", Filter{Operations: []event.Operation{event.FileRead}}, denied, false},
		{"layer", Filter{Layers: []event.Layer{event.LayerProxy}}, denied, true},
		{"other layer", Filter{Layers: []event.Layer{event.LayerNFT}}, denied, false},
		{"sandbox by id", Filter{Sandbox: "ab12"}, denied, true},
		{"sandbox by the beginning of its id", Filter{Sandbox: "ab"}, denied, true},
		{"sandbox by name", Filter{Sandbox: "build"}, denied, true},
		{"sandbox by a part of its name", Filter{Sandbox: "bui"}, denied, false},
		{"host", Filter{Host: "evil.example"}, denied, true},
		{"host glob in capitals", Filter{Host: "*.EXAMPLE"}, denied, true},
		{"other host", Filter{Host: "example"}, denied, false},
		{"host by address", Filter{Host: "10.0.*"}, literal, true},
		{"any host of a file", Filter{Host: "*"}, system, false},
		{"path", Filter{Path: "/etc/*.pem"}, system, true},
		{"other path", Filter{Path: "/etc"}, system, false},
		{"any path of a host", Filter{Path: "*"}, denied, false},
		{"pid", Filter{PID: 7}, denied, true},
		{"other pid", Filter{PID: 8}, denied, false},
		{"pid of nobody", Filter{PID: 7}, literal, false},
		{"two conditions, one met", Filter{PID: 7, Host: "x"}, denied, false},
		{"notable denial", Filter{Notable: true}, denied, true},
		{"notable, allowed", Filter{Notable: true}, allowed, false},
		{"notable, allowed and asked for", Filter{Notable: true, Verdicts: []event.Verdict{event.Allow}}, allowed, true},
		{"notable, reason system", Filter{Notable: true}, system, false},
		{"notable, with a loss", Filter{Notable: true}, lossy, true},
		{"other verdict, with a loss", Filter{Notable: true, Verdicts: []event.Verdict{event.Deny}}, lossy, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := tt.filter.match(&tt.event); got != tt.want {
				t.Errorf("match = %v, want %v", got, tt.want)
			}
		})
	}
}

func TestNotableKeepsEveryVerdictButAllow(t *testing.T) {
	f := Filter{Notable: true}
	for v := range event.Verdicts() {
		e := event.Event{Verdict: event.Verdict(v)}
		if got, want := f.match(&e), e.Verdict != event.Allow; got != want {
			t.Errorf("%v: match = %v", e.Verdict, got)
		}
	}
}

func TestGlobMatchesWholeTextsAcrossSlashes(t *testing.T) {
	for _, tt := range []struct {
		pattern, s string
		want       bool
	}{
		{"", "", true}, {"", "a", false}, {"a", "", false}, {"a", "a", true}, {"a", "ab", false},
		{"*", "", true}, {"*", "a/b", true}, {"**", "ab", true}, {"?", "a", true}, {"?", "", false},
		{"?", "/", true}, {"a*c", "abbc", true}, {"a*c", "abcd", false}, {"*.x", "a.b.x", true},
		{"*a*b*", "xxaxxbxx", true}, {"*a*b*", "xxbxxaxx", false}, {"/home/*/.ssh/*", "/home/u/.ssh/id", true},
		{"a\xff*", "a\xff\xfe", true}, {"[a]", "a", false}, {"[a]", "[a]", true}, {"*aab", "aaaab", true},
	} {
		if got := glob(tt.pattern, tt.s); got != tt.want {
			t.Errorf("glob(%q, %q) = %v", tt.pattern, tt.s, got)
		}
	}
}
