package policy

import (
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestAskingIsOffUnlessItIsAskedFor(t *testing.T) {
	every := []string{"tty", "socket", "desktop"}
	for _, c := range []struct {
		name, text string
		flags      Flags
		want       AskRules
	}{
		{"nothing", "{network: {}}", nil, AskRules{false, every, time.Minute}},
		{"an empty mapping", "ask: {}", nil, AskRules{true, every, time.Minute}},
		{"the flag", "{network: {}}", Flags{{FlagAsk, "socket,tty"}}, AskRules{true, []string{"socket", "tty"}, time.Minute}},
		{"nobody", "ask: {via: []}", nil, AskRules{true, []string{}, time.Minute}},
		{"the flag over a file", "ask: {via: [tty], timeout: 5s}", Flags{{FlagAsk, "desktop"}}, AskRules{true, []string{"desktop"}, 5 * time.Second}},
		{"only a timeout", "ask: {timeout: 2m}", nil, AskRules{true, every, 2 * time.Minute}},
	} {
		t.Run(c.name, func(t *testing.T) {
			f, err := Parse(Source{Name: "p.yaml", Data: []byte(c.text)})
			if err != nil {
				t.Fatal(err)
			}
			p, err := New(testEnv, f, FromFlags(c.flags))
			if err != nil {
				t.Fatal(err)
			}
			if got := p.Ask(); got.On != c.want.On || strings.Join(got.Via, " ") != strings.Join(c.want.Via, " ") || got.Timeout != c.want.Timeout {
				t.Errorf("got %+v, want %+v", got, c.want)
			}
		})
	}
	if _, err := New(testEnv, FromFlags(Flags{{FlagAsk, "tty,post"}})); err == nil || !strings.Contains(err.Error(), "post") {
		t.Errorf("an unknown way: %v", err)
	}
}

func TestAuthorizersAreReadWhole(t *testing.T) {
	p := mustPolicy(t, testEnv, `network: {authorizer: {unix: "~/auth.sock", timeout: 50ms, negativeTTL: 1s}}`)
	a := p.Authorizer()
	if a == nil || a.Unix != testEnv.Home+"/auth.sock" || a.Timeout != 50*time.Millisecond || a.TTL != time.Minute || a.NegativeTTL != time.Second {
		t.Fatalf("%+v", a)
	}
	if !p.DecideNet(target(t, "c.example.com:443")).Ask || p.Ask().On {
		t.Error("an authorizer decides what nothing forbids, and asks nobody")
	}
	for _, bad := range []string{`{}`, `{exec: [/x], unix: /y}`, `{http: "ftp://x"}`, `{exec: [/x], timeout: 0s}`, `{unix: ""}`} {
		if f, err := Parse(Source{Name: "p.yaml", Data: []byte("network: {authorizer: " + bad + "}")}); err == nil {
			t.Errorf("%s is taken: %+v", bad, f.authorizer)
		}
	}
}

func TestAnAnswerOpensNoAddressThatTheHostMustNotLeadTo(t *testing.T) {
	p := mustPolicy(t, testEnv, `{ask: {}, network: {deniedDomains: [b.example.com], deniedResolvedAddresses: [93.184.216.0/24]}}`)
	for _, c := range []struct {
		host, addr string
		want       bool
	}{
		{"c.example.com:443", "93.184.215.1", true},
		{"c.example.com:443", "10.0.0.1", false},
		{"c.example.com:443", "169.254.169.254", false},
		{"c.example.com:443", "93.184.216.1", false},
		{"b.example.com:443", "93.184.215.1", false},
		{"93.184.215.1:443", "93.184.215.1", true},
		{"93.184.215.1:443", "93.184.215.2", false},
	} {
		granted := allowed(Rule{Name: "ask"})
		if d := p.DecideAsked(granted, target(t, c.host), netip.MustParseAddr(c.addr)); d.Allowed() != c.want {
			t.Errorf("%s at %s: %+v", c.host, c.addr, d)
		}
	}
}

func TestHostRulesMatchAsTheirListsDo(t *testing.T) {
	for _, c := range []struct {
		entry string
		allow bool
		host  string
		want  bool
	}{
		{"a.example.com", true, "a.example.com:443", true},
		{"a.example.com", true, "a.example.com:25", false},
		{"a.example.com:25", true, "a.example.com:25", true},
		{"*.example.com", true, "example.com:443", false},
		{"*.example.com", true, "a.b.example.com:443", true},
		{"*", false, "a.example.com:25", true},
		{"*:22", false, "a.example.com:443", false},
		{"192.0.2.0/24", true, "192.0.2.7:80", true},
	} {
		r, err := ParseHostRule(c.entry, c.allow)
		if err != nil {
			t.Fatal(err)
		}
		if got := r.Matches(target(t, c.host)); got != c.want {
			t.Errorf("%s matches %s: %v", c.entry, c.host, got)
		}
	}
	for _, bad := range []string{"*", "*.com", "", "a b", "x"} {
		if _, err := ParseHostRule(bad, true); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

func TestEntriesForARequestAllowIt(t *testing.T) {
	for host, want := range map[string][]string{
		"a.b.example.co.uk:443": {"a.b.example.co.uk:443", "a.b.example.co.uk", "*.example.co.uk"},
		"example.com:25":        {"example.com:25"},
		"x.github.io:80":        {"x.github.io:80", "x.github.io"},
		"[2001:db8::1]:80":      {"[2001:db8::1]:80", "[2001:db8::1]"},
	} {
		if got := Entries(target(t, host)); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %q, want %q", host, got, want)
		}
	}
}

// A rule alone decides as it would in its list.
func TestHostRulesMatchAsTables(t *testing.T) {
	hosts := []string{"a.example.com:443", "a.example.com:25", "example.com:443", "b.a.example.com:22", "xexample.com:443",
		"192.0.2.7:80", "192.0.3.7:80", "[2001:db8::1]:443", "localhost:80"}
	for _, entry := range []string{"example.com", "a.example.com:25", "a.example.com:443", "*.example.com", "*.a.example.com:22", "*", "*:22",
		"192.0.2.0/24", "192.0.2.7:80", "[2001:db8::/32]:443", "localhost"} {
		for _, allow := range []bool{true, false} {
			r, err := ParseHostRule(entry, allow)
			if err != nil {
				continue
			}
			table := newHostTable([]hostEntry{r.entry})
			for _, host := range hosts {
				req := target(t, host)
				_, want := table.deny(req.Host, req.Port)
				if allow {
					_, _, want = table.allow(req.Host, req.Port)
				}
				if got := r.Matches(req); got != want {
					t.Errorf("%s (allow %v) matches %s: %v, the table says %v", entry, allow, host, got, want)
				}
			}
		}
	}
}

func TestACeilingIsNotAskedAway(t *testing.T) {
	p := layered(t, `ceiling: {network: {allowedDomains: ["*.example.com"], deniedResolvedAddresses: [93.184.216.0/24]}}`, `own: {ask: {}}`)
	if !p.DecideNet(target(t, "a.example.com:443")).Ask || p.DecideNet(target(t, "b.example.org:443")).Ask {
		t.Error("what the ceiling leaves open is asked, and nothing else")
	}
	for addr, want := range map[string]bool{"93.184.215.1": true, "93.184.216.1": false, "10.0.0.1": false} {
		if d := p.DecideAsked(allowed(Rule{Name: "ask"}), target(t, "a.example.com:443"), netip.MustParseAddr(addr)); d.Allowed() != want {
			t.Errorf("%s: %+v", addr, d)
		}
	}
}

func TestShowSaysWhoIsAsked(t *testing.T) {
	for text, want := range map[string]string{
		`ask: {via: [tty]}`: "ask: {via: [tty], timeout: 1m0s}",
		`network: {authorizer: {exec: [/bin/a, "b c"], ttl: 5m}}`:       "  authorizer: {exec: [/bin/a, 'b c'], timeout: 200ms, ttl: 5m0s, negativeTTL: 10s}",
		`network: {authorizer: {http: "https://u:secret@a.example/x"}}`: "  authorizer: {http: https://u:xxxxx@a.example/x, timeout: 200ms, ttl: 1m0s, negativeTTL: 10s}",
	} {
		var lines, texts []string
		for _, l := range mustPolicy(t, testEnv, text).Lines() {
			lines = append(lines, l.Text)
			if !l.Dead {
				texts = append(texts, l.Text)
			}
		}
		if !strings.Contains(strings.Join(lines, "\n"), want) || strings.Contains(strings.Join(lines, ""), "as it is there") {
			t.Errorf("%s is shown as\n%s", text, strings.Join(lines, "\n"))
		}
		again := mustPolicy(t, testEnv, strings.Join(texts, "\n"))
		if d := again.DecideNet(target(t, "c.example.com:443")); !d.Ask {
			t.Errorf("what is shown of %s decides otherwise", text)
		}
	}
}
