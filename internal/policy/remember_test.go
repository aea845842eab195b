package policy

import (
	"strings"
	"testing"
)

func TestAnAnswerIsWrittenWhereItBelongs(t *testing.T) {
	const e = "new.example.com:443"
	const m = " # asked 2026-01-02"
	for _, c := range []struct{ name, before, after string }{
		{"no file", "", "network:\n  allowedDomains:\n    - new.example.com:443" + m + "\n"},
		{"a list", "# mine\nnetwork:\n  # why\n  allowedDomains:\n    - a.example.com # first\n    - b.example.com\n  deniedDomains: [c.example.com]\nfilesystem: {denyRead: [x]}\n",
			"# mine\nnetwork:\n  # why\n  allowedDomains:\n    - a.example.com # first\n    - b.example.com\n    - new.example.com:443" + m + "\n  deniedDomains: [c.example.com]\nfilesystem: {denyRead: [x]}\n"},
		{"a list without indentation", "network:\n  allowedDomains:\n  - a.example.com\n", "network:\n  allowedDomains:\n  - a.example.com\n  - new.example.com:443" + m + "\n"},
		{"no newline at the end", "network:\n  allowedDomains:\n    - a.example.com", "network:\n  allowedDomains:\n    - a.example.com\n    - new.example.com:443" + m},
		{"lines of Windows", "network:\r\n  allowedDomains:\r\n    - a.example.com\r\n", "network:\r\n  allowedDomains:\r\n    - a.example.com\r\n    - new.example.com:443" + m + "\r\n"},
		{"in brackets", "network: {allowedDomains: [a.example.com], strictAllowlist: false} # end\n", "network: {allowedDomains: [a.example.com, \"new.example.com:443\"], strictAllowlist: false} # end\n"},
		{"in empty brackets", "network:\n  allowedDomains: [] # none\n", "network:\n  allowedDomains: [\"new.example.com:443\"] # none\n"},
		{"no list", "# a\nnetwork:\n  # b\n  strictAllowlist: false\n", "# a\nnetwork:\n  # b\n  allowedDomains:\n    - new.example.com:443" + m + "\n  strictAllowlist: false\n"},
		{"no network", "ask: {} # a\n\n# end\n", "ask: {} # a\n\n# end\nnetwork:\n  allowedDomains:\n    - new.example.com:443" + m + "\n"},
		{"no network, no newline", "ask: {}", "ask: {}\nnetwork:\n  allowedDomains:\n    - new.example.com:443" + m + "\n"},
		{"JSON", "{\n  \"network\": {\n    \"allowedDomains\": [\n      \"ä.example.com\",\n      \"b.example.com\"\n    ],\n    \"deniedDomains\": []\n  }\n}\n",
			"{\n  \"network\": {\n    \"allowedDomains\": [\n      \"ä.example.com\",\n      \"b.example.com\",\n      \"new.example.com:443\"\n    ],\n    \"deniedDomains\": []\n  }\n}\n"},
		{"JSON on a line", `{"network":{"allowedDomains":["a.example.com"]}}`, `{"network":{"allowedDomains":["a.example.com", "new.example.com:443"]}}`},
		{"JSON without a list", `{"network":{}}`, `{"network":{"allowedDomains": ["new.example.com:443"]}}`},
		{"JSON without a network", `{"filesystem":{"denyRead":["x"]}}`, `{"filesystem":{"denyRead":["x"]}, "network": {"allowedDomains": ["new.example.com:443"]}}`},
		{"there already", "network: {allowedDomains: [\"new.example.com:443\"]}\n", "network: {allowedDomains: [\"new.example.com:443\"]}\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := Remember([]byte(c.before), e, true, "2026-01-02")
			if err != nil || string(got) != c.after {
				t.Errorf("%v\ngot  %q\nwant %q", err, got, c.after)
			}
			p := mustPolicy(t, testEnv, string(got))
			if !p.DecideNet(target(t, e)).Allowed() {
				t.Error("it is not allowed")
			}
		})
	}
}

func TestWildcardsAndAddressesAreQuoted(t *testing.T) {
	text := []byte("network:\n  deniedDomains:\n    - x.example.com\n")
	var err error
	for _, e := range []string{"*.example.org", "192.0.2.1:80", "[2001:db8::1]:443", "*:22"} {
		if text, err = Remember(text, e, false, "2026-01-02"); err != nil {
			t.Fatal(err)
		}
	}
	p := mustPolicy(t, testEnv, string(text))
	for _, host := range []string{"a.example.org:1", "192.0.2.1:80", "[2001:db8::1]:443", "any.example.net:22"} {
		if d := p.DecideNet(target(t, host)); d.Rule.Name != "" || d.Allowed() {
			t.Errorf("%s: %+v", host, d)
		}
	}
}

func TestWhatIsNotUnderstoodIsNotChanged(t *testing.T) {
	for name, text := range map[string]string{
		"problems":               "network: {allowedDomain: [a.example.com]}",
		"no YAML":                "network: [",
		"a comment before the ]": "network:\n  allowedDomains: [\n    a.example.com # first\n  ]\n",
	} {
		if got, err := Remember([]byte(text), "new.example.com:443", true, "2026-01-02"); err == nil {
			t.Errorf("%s: %q", name, got)
		}
	}
	for _, e := range []string{"*", "*.com", "a b", "a\n- b.example.com", ""} {
		if got, err := Remember(nil, e, true, "2026-01-02"); err == nil {
			t.Errorf("%q: %q", e, got)
		}
	}
}

func TestWhatWasAnsweredIsListedAndForgotten(t *testing.T) {
	const own = "network:\n  # mine\n  allowedDomains:\n    - a.example.com # asked often\n"
	text := []byte(own)
	for _, e := range []string{"new.example.com:443", "*.example.org"} {
		var err error
		if text, err = Remember(text, e, true, "2026-01-02"); err != nil {
			t.Fatal(err)
		}
	}
	text, err := Remember(text, "*.example.org", false, "2026-01-03")
	if err != nil {
		t.Fatal(err)
	}
	got := RememberedEntries(text)
	if len(got) != 3 || got[0] != (Remembered{"new.example.com:443", true, "2026-01-02", 7}) || got[2].Allow {
		t.Errorf("%+v\n%s", got, text)
	}
	if text, n, err := ForgetEntry(text, "a.example.com"); n != 0 || err != nil {
		t.Errorf("what the user wrote is forgotten: %d, %v\n%s", n, err, text)
	}
	text, n, err := ForgetEntry(text, "*.example.org")
	if n != 2 || err != nil {
		t.Errorf("%d, %v\n%s", n, err, text)
	}
	text, n, err = ForgetEntry(text, "new.example.com:443")
	if want := strings.Replace(own, "  # mine", "  deniedDomains: []\n  # mine", 1); n != 1 || err != nil || !strings.Contains(string(text), "- a.example.com # asked often\n") {
		t.Errorf("%d, %v\n%s\nwant\n%s", n, err, text, want)
	}
	fresh, _ := Remember(nil, "new.example.com:443", true, "2026-01-02")
	if text, n, err := ForgetEntry(fresh, "new.example.com:443"); n != 1 || err != nil || string(text) != "network:\n  allowedDomains: []\n" {
		t.Errorf("%d, %v: %q", n, err, text)
	}
}

func FuzzRemember(f *testing.F) {
	for _, s := range []string{"", "network:\n  allowedDomains:\n    - a.example.com\n", "network: {allowedDomains: [a.example.com]}",
		"{\"network\": {}}", "ask: {}", "\ufeffnetwork:\r\n  strictAllowlist: true\r\n", "---\nnetwork: {}\n...\n"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		out, err := Remember([]byte(text), "new.example.com:443", true, "2026-01-02")
		if err != nil {
			return
		}
		file, err := Parse(Source{Name: "p", Data: out})
		if err != nil {
			t.Fatalf("%q became %q: %v", text, out, err)
		}
		found := 0
		for _, e := range *file.allowed {
			if e.canonical() == "new.example.com:443" {
				found++
			}
		}
		if found == 0 {
			t.Fatalf("%q became %q", text, out)
		}
	})
}
