package ask

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/sallyport/sallyport/internal/event"
)

func TestReplies(t *testing.T) {
	for _, c := range []struct {
		name, text string
		want       Reply
	}{
		{"the least", `{"verdict":"allow"}`, Reply{Verdict: Allow}},
		{"everything", ` {"id":"i","verdict":"deny","scope":"ttl","match":"*.a.b","ttl_s":60,"reason":"no","decision_id":"d"} `,
			Reply{ID: "i", Scope: TTL, Match: "*.a.b", TTL: 60, Reason: "no", DecisionID: "d"}},
		{"always", `{"id":"i","verdict":"allow","scope":"always"}`, Reply{ID: "i", Verdict: Allow, Scope: Always}},
		{"an authorizer's", `{"verdict":"ask"}`, Reply{Verdict: Pass}},
	} {
		if got, err := ParseReply([]byte(c.text)); err != nil || got != c.want {
			t.Errorf("%s: %+v, %v", c.name, got, err)
		}
		agree(t, []byte(c.text))
	}
}

// garbage is what is no reply.
var garbage = map[string]string{
	"nothing":           ``,
	"text":              `allow`,
	"a string":          `"allow"`,
	"null":              `null`,
	"a list":            `[{"verdict":"allow"}]`,
	"no verdict":        `{"id":"i"}`,
	"empty":             `{}`,
	"cut":               `{"id":"i","verdict":"allow"`,
	"two values":        `{"id":"i","verdict":"allow"}{}`,
	"twice":             `{"id":"i","verdict":"deny","verdict":"allow"}`,
	"another case":      `{"id":"i","VERDICT":"allow"}`,
	"another verdict":   `{"id":"i","verdict":"Allow"}`,
	"a number":          `{"id":"i","verdict":1}`,
	"a null":            `{"id":"i","verdict":null}`,
	"another field":     `{"id":"i","verdict":"allow","scopes":"once"}`,
	"another scope":     `{"id":"i","verdict":"allow","scope":"forever"}`,
	"no time":           `{"id":"i","verdict":"allow","scope":"ttl"}`,
	"no length of time": `{"id":"i","verdict":"allow","scope":"ttl","ttl_s":0}`,
	"a negative time":   `{"id":"i","verdict":"allow","scope":"ttl","ttl_s":-1}`,
	"half a second":     `{"id":"i","verdict":"allow","scope":"ttl","ttl_s":0.5}`,
	"too long a time":   `{"id":"i","verdict":"allow","scope":"ttl","ttl_s":1e9}`,
	"not UTF-8":         "{\"id\":\"i\",\"verdict\":\"allow\",\"reason\":\"\xff\"}",
	"a long reason":     `{"id":"i","verdict":"allow","reason":"` + strings.Repeat("x", maxReason+1) + `"}`,
	"too long":          `{"id":"i","verdict":"allow","x":"` + strings.Repeat("x", MaxReply) + `"}`,
}

func TestGarbageIsNoReply(t *testing.T) {
	for name, text := range garbage {
		if got, err := ParseReply([]byte(text)); err == nil || got.Verdict != Deny || got.Scope != Once {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
		agree(t, []byte(text))
	}
}

func TestAMessageIsOneHarmlessLine(t *testing.T) {
	r := Request{Host: "x", Name: "a\u202eb\n\x1b[2J\u2028\xff", Proc: &Proc{Argv: []event.Text{"\x00", "\U0001F600", "\x7f\u009b"}}}
	line, err := Encode(r)
	if err != nil {
		t.Fatal(err)
	}
	if body, ok := bytes.CutSuffix(line, []byte("\n")); !ok || bytes.ContainsFunc(body, func(c rune) bool { return c < ' ' || c > '~' }) {
		t.Errorf("%q", line)
	}
	var back Request
	if err := json.Unmarshal(line, &back); err != nil || back.Name != r.Name || back.Proc.Argv[1] != r.Proc.Argv[1] || back.Proc.Argv[2] != r.Proc.Argv[2] {
		t.Errorf("read back %+v, %v", back, err)
	}
}

func TestALongCommandLineIsCut(t *testing.T) {
	p := procOf(&event.Process{PID: 1, Exe: event.Text(strings.Repeat("x", 5000)), Argv: []event.Text{"a", event.Text(strings.Repeat("y", 5000)), "b"}})
	if len(p.Exe) > maxArgv+8 || len(p.Argv) != 2 || p.Argv[1] != "…" {
		t.Errorf("%d, %d arguments", len(p.Exe), len(p.Argv))
	}
}

func TestNamesAreShownWithoutWhatDeceives(t *testing.T) {
	long := strings.Repeat("evil-", 40) + "x." + strings.Repeat("abcdefghi.", 4) + "example.com"
	for _, c := range []struct{ host, want string }{
		{"example.com", "example.com"},
		{"xn--bcher-kva.example", "bücher.example (xn--bcher-kva.example)"},
		{"xn--80ak6aa92e.com", "аррӏе.com (xn--80ak6aa92e.com)"}, // one script, and both forms
		{"xn--pple-43d.com", "xn--pple-43d.com"},                 // а of another script in Latin
		{"xn--a-ecp.ru", "xn--a-ecp.ru"},                         // a mark of no script
		{"xn--", "xn--"},
		{"93.184.216.34", "93.184.216.34"},
		{"a\x1b[31mb\u202ec\n", `a\x1b[31mb\u{202e}c\x0a`},
		{long, "…" + long[len(long)-maxShown:]},
	} {
		if got := Show(c.host); got != c.want {
			t.Errorf("%q is shown as %q, want %q", c.host, got, c.want)
		}
	}
}

func FuzzReply(f *testing.F) {
	for _, text := range garbage {
		f.Add([]byte(text))
	}
	f.Add([]byte(`{"id":"i","verdict":"deny","scope":"ttl","match":"*.a.b","ttl_s":60,"reason":"no","decision_id":"d"}`))
	f.Add([]byte(`{"decision_id":"d","result":{"verdict":"allow"}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		agree(t, data)
		r, err := ParseReply(data)
		if err != nil {
			if r.Verdict != Deny || r.Scope != Once || r.Match != "" {
				t.Fatalf("%q: an error, and %+v", data, r)
			}
		} else if line, err := Encode(r); err != nil {
			t.Fatal(err)
		} else if again, err := ParseReply(bytes.TrimSpace(line)); err != nil || again != r {
			t.Fatalf("%q: %+v, again %+v, %v", data, r, again, err)
		}
		if r, err := parseRuling(data); err != nil && r.Verdict != Deny {
			t.Fatalf("%q: an error, and %+v", data, r)
		}
	})
}

func FuzzShow(f *testing.F) {
	for _, s := range []string{"example.com", "xn--pple-43d.com", "\x1b[2J", "xn--80ak6aa92e.com", "\u202e.\xff"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, host string) {
		out := Show(host)
		if !utf8.ValidString(out) {
			t.Fatalf("%q", out)
		}
		if out != event.Text(out).Printable() && !strings.Contains(out, `\`) {
			t.Fatalf("%q is shown as %q", host, out)
		}
	})
}
