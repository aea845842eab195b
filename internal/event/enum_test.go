package event

import (
	"encoding"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

// enum is what every enumeration of the package must do, seen through the same
// small window.
type enum interface {
	fmt.Stringer
	encoding.TextMarshaler
}

// enums maps each enumeration to its names, a maker of values and its decoder.
var enums = map[string]struct {
	names  func() []string
	value  func(uint8) enum
	decode func(string) (enum, error)
	last   enum // of the constants: a constant without a name is a mistake
}{
	"verdict":   {Verdicts, func(i uint8) enum { return Verdict(i) }, decodeAs[Verdict], Audit},
	"layer":     {Layers, func(i uint8) enum { return Layer(i) }, decodeAs[Layer], LayerSupervisor},
	"operation": {Operations, func(i uint8) enum { return Operation(i) }, decodeAs[Operation], TimeUse},
	"reason":    {Reasons, func(i uint8) enum { return Reason(i) }, decodeAs[Reason], AuthorizerAnswer},
	"tier":      {Tiers, func(i uint8) enum { return Tier(i) }, decodeAs[Tier], TierSeatbelt},
	"loss":      {Losses, func(i uint8) enum { return Loss(i) }, decodeAs[Loss], LossSystem},
	"upstream":  {Upstreams, func(i uint8) enum { return Upstream(i) }, decodeAs[Upstream], UpstreamUnreachable},
	"start":     {Starts, func(i uint8) enum { return Start(i) }, decodeAs[Start], Started},
}

func decodeAs[T enum, P interface {
	*T
	encoding.TextUnmarshaler
}](s string) (enum, error) {
	var v T
	err := P(&v).UnmarshalText([]byte(s))
	return v, err
}

func TestEveryEnumValueHasOneNameAndReadsBack(t *testing.T) {
	for kind, e := range enums {
		t.Run(kind, func(t *testing.T) {
			seen := map[string]bool{}
			for i, name := range e.names() {
				v := e.value(uint8(i))
				b, err := v.MarshalText()
				if err != nil || string(b) != name || v.String() != name {
					t.Errorf("value %d: MarshalText %q, %v; String %q; want %q", i, b, err, v, name)
				}
				if back, err := e.decode(name); err != nil || back != v {
					t.Errorf("decode %q: %v, %v; want %v", name, back, err, v)
				}
				if name == "" || seen[name] || strings.ToLower(name) != name {
					t.Errorf("value %d: name %q is empty, taken or not lower case", i, name)
				}
				seen[name] = true
			}
			if n := e.names(); e.last.String() != n[len(n)-1] {
				t.Errorf("the last constant is %q, the last name %q", e.last, n[len(n)-1])
			}
		})
	}
}

func TestInvalidEnumValuesAreNeitherWrittenNorRead(t *testing.T) {
	for kind, e := range enums {
		t.Run(kind, func(t *testing.T) {
			v := e.value(uint8(len(e.names())))
			if b, err := v.MarshalText(); err == nil {
				t.Errorf("an invalid value was written as %q", b)
			}
			if !strings.HasPrefix(v.String(), "invalid(") {
				t.Errorf("an invalid value prints as %q", v)
			}
			for _, s := range []string{"", "DENY", "nonsense", " " + e.names()[0], "0"} {
				if got, err := e.decode(s); err == nil {
					t.Errorf("%q was read as %v", s, got)
				}
			}
		})
	}
}

func TestZeroValuesDenyOrKnowNothing(t *testing.T) {
	for kind, want := range map[string]string{"verdict": "deny", "layer": "unknown",
		"operation": "unknown", "reason": "not-allowed", "tier": "none"} {
		if got := enums[kind].value(0).String(); got != want {
			t.Errorf("zero %s is %q, want %q", kind, got, want)
		}
	}
	if !(Event{}).Verdict.Denied() {
		t.Error("the zero event is not a denial")
	}
}

func TestOnlyRefusalsAreDenied(t *testing.T) {
	want := map[Verdict]bool{Deny: true, Allow: false, AskAllowed: false, AskDenied: true, Audit: false}
	for v, denied := range want {
		if v.Denied() != denied {
			t.Errorf("%v.Denied() = %v", v, !denied)
		}
	}
}

func TestNameListsAreCopies(t *testing.T) {
	for kind, e := range enums {
		e.names()[0] = "changed"
		if e.names()[0] == "changed" {
			t.Errorf("%s: a caller can change the names", kind)
		}
	}
}

func TestEventReadsBackWhole(t *testing.T) {
	in := Event{Schema: SchemaVersion, Seq: 7, Verdict: AskDenied, Layer: LayerProxy, Operation: NetConnect,
		Reason: Unanswered, Rule: "policy.yaml:3", Count: 2,
		Sandbox: Sandbox{ID: "a1", Tier: TierRootless, Name: "caf\xe9"},
		Object:  Object{Host: "example.com", Port: 443, Proto: "tcp"},
		Process: &Process{PID: 12, Argv: []Text{"sh", "-c", "\x1b[2J\xff"}}}
	b, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	var out Event
	if err := json.Unmarshal(b, &out); err != nil {
		t.Fatal(err)
	}
	again, _ := json.Marshal(out)
	if string(again) != string(b) {
		t.Errorf("read back as %s, want %s", again, b)
	}
	if out.Process.Argv[2] != "\x1b[2J\xff" || out.Sandbox.Name != "caf\xe9" || out.Verdict != AskDenied {
		t.Errorf("changed on the way: %+v", out)
	}
}
