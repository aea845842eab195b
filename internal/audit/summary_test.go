package audit

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/internal/event"
)

func denial(op event.Operation, o event.Object, reason event.Reason, rule string, count uint64) event.Event {
	return event.Event{Operation: op, Object: o, Reason: reason, Rule: rule, Count: count}
}

// attempts is what a run might have tried.
func attempts() []event.Event {
	host := func(h event.Text) event.Object { return event.Object{Host: h, Port: 443} }
	allowed, asked := denial(event.NetConnect, host("ok.example"), event.RuleAllowed, "p:1", 4), denial(event.NetConnect, host("maybe.example"), event.Unanswered, "p:2", 1)
	allowed.Verdict, asked.Verdict = event.Allow, event.AskDenied
	lossy := denial(event.NetDNS, event.Object{Host: "a\x1b[2J.example"}, event.NameInvalid, "builtin:default-deny", 1)
	lossy.LostSinceLast = 7
	return []event.Event{allowed, asked, lossy,
		denial(event.NetConnect, host("evil.example"), event.NotAllowed, "builtin:default-deny", 2),
		denial(event.NetConnect, host("evil.example"), event.NotAllowed, "builtin:default-deny", 3),
		denial(event.FileWrite, event.Object{Path: "/etc/pass wd\n"}, event.PathReadOnly, "builtin:read-only", 5),
		denial(event.FileRead, event.Object{Path: "/root"}, event.System, "", 50)}
}

func fix(e event.Event) string {
	switch e.Operation {
	case event.NetConnect:
		return "--allow-domain " + string(e.Object.Host)
	case event.FileWrite:
		return "filesystem:\n  allowWrite: ['C:\\x']\x1b[2J"
	}
	return ""
}

func summarise(events []event.Event) Summary {
	s := NewSummariser(fix)
	for _, e := range events {
		s.Add(e)
	}
	out := s.Summary()
	out.Sandbox, out.PolicySHA256, out.Tier, out.Exit = "box-1", strings.Repeat("ab", 32), event.TierRootless, 3
	out.NotRecorded = []string{"file.read", "file.write"}
	return out
}

func TestSummaryGroupsDenialsAndDependsOnNoOrder(t *testing.T) {
	events := attempts()
	text := func() string {
		var b bytes.Buffer
		if err := summarise(events).WriteText(&b); err != nil {
			t.Fatal(err)
		}
		return b.String()
	}
	first := text()
	golden(t, "summary.txt", first)
	for range 20 {
		rand.Shuffle(len(events), func(i, j int) { events[i], events[j] = events[j], events[i] })
		if again := text(); again != first {
			t.Fatalf("in another order:\n%s", again)
		}
	}
}

func TestSummaryAsJSON(t *testing.T) {
	b, err := json.MarshalIndent(summarise(attempts()), "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "summary.json", string(b)+"\n")
	b, err = json.Marshal(NewSummariser(nil).Summary())
	if err != nil {
		t.Fatal(err)
	}
	want := `{"schema":1,"sandbox":"","policy_sha256":"","tier":"none","exit":0,"counts":{},"lost":0,"not_recorded":[],"denials":[]}`
	if string(b) != want {
		t.Errorf("empty: %s\nwant: %s", b, want)
	}
}

func TestSummaryIsSilentWhenThereIsNothingToSay(t *testing.T) {
	var b bytes.Buffer
	s := NewSummariser(nil)
	s.Add(event.Event{Verdict: event.Allow, Count: 3})
	if err := s.Summary().WriteText(&b); err != nil || b.Len() > 0 {
		t.Errorf("%q, %v", b.String(), err)
	}
}

func TestSummaryKeepsABoundedNumberOfGroupsAndSaysWhatItLeftOut(t *testing.T) {
	asked := 0
	s := NewSummariser(func(event.Event) string { asked++; return "" })
	for i := range summaryGroups + 50 {
		o := event.Object{Host: event.Text(fmt.Sprintf("h%04d", i))}
		for range 2 {
			s.Add(denial(event.NetDNS, o, event.NotAllowed, "builtin:default-deny", 1))
		}
	}
	out := s.Summary()
	if len(out.Denials) != summaryGroups || out.DenialsLeftOut != 100 || out.Denied() != 2*(summaryGroups+50) || asked != summaryGroups {
		t.Errorf("%d groups, %d left out, %d denied, %d suggestions", len(out.Denials), out.DenialsLeftOut, out.Denied(), asked)
	}
	var b bytes.Buffer
	if err := out.WriteText(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"2100 attempts denied", "h0000:", "h0009:", "and 990 more", "and 100 attempts of kinds beyond 1000"} {
		if want = strings.ReplaceAll(want, "h0000:", "h0000: not-allowed"); !strings.Contains(b.String(), want) {
			t.Errorf("%q is missing in:\n%s", want, b.String())
		}
	}
	if strings.Contains(b.String(), "h0010") {
		t.Errorf("more than ten are shown:\n%s", b.String())
	}
}

func TestSummaryTellsWhatWasPlantedAndHowToGetItBack(t *testing.T) {
	s := Summary{Planted: []Planted{
		{Path: "/w/.git/config", Rule: "builtin:protected:.git/config", Inert: true},
		{Path: "/w/it's/.envrc\x1b[2J", Rule: "builtin:protected:.envrc", Kept: "/q/0-.envrc"},
		{Path: "/w/.vscode", Rule: "builtin:protected:.vscode", Error: "move: no\n"},
	}}
	var b bytes.Buffer
	if err := s.WriteText(&b); err != nil {
		t.Fatal(err)
	}
	want := `sallyport: 2 files appeared under a protected name, which programs on the host would trust
  /w/it's/.envrc\x1b[2J (builtin:protected:.envrc): moved; look at it, and take it back with:
     mv -n '/q/0-.envrc' '/w/it'\''s/.envrc\x1b[2J'
  /w/.vscode (builtin:protected:.vscode): still there: move: no\x0a
`
	if b.String() != want {
		t.Errorf("got\n%swant\n%s", b.String(), want)
	}
	if s.Appeared() != 2 {
		t.Errorf("%d appeared", s.Appeared())
	}
}
