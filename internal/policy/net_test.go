package policy

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/internal/event"
)

var testEnv = Env{
	Home: "/home/u", Cwd: "/home/u/proj", ConfigDir: "/home/u/.config/sallyport",
	StateDir: "/home/u/.local/state/sallyport", CacheDir: "/home/u/.cache/sallyport",
	RuntimeDir: "/run/user/1000", Exe: "/usr/local/bin/sallyport",
	HostAddrs: []netip.Addr{netip.MustParseAddr("93.184.216.34"), netip.MustParseAddr("fe80::5%eth0"),
		netip.MustParseAddr("192.168.7.7")},
}

// mustPolicy makes a policy of texts named p0.yaml, p1.yaml, …
func mustPolicy(t testing.TB, env Env, texts ...string) *Policy {
	t.Helper()
	var files []*File
	for i, text := range texts {
		f, err := Parse(Source{Name: fmt.Sprintf("p%d.yaml", i), Data: []byte(text)})
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, f)
	}
	p, err := New(env, files...)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func target(t testing.TB, s string) NetRequest {
	t.Helper()
	req, err := ParseNetTarget(s)
	if err != nil {
		t.Fatal(err)
	}
	return req
}

const netPolicy = `network:
  allowedDomains:
    - example.com
    - "*.example.org"
    - api.example.net:8443
    - mail.example.net:25
    - 198.51.100.7
    - 10.1.0.0/16:5432
    - "[2001:db8::1]:443"
    - bücher.example
    - no.example.com
  deniedDomains:
    - bad.example.org
    - "*.worse.example.org"
    - "*:22"
    - no.example.com
    - 10.1.9.0/24
    - example.com:8080
  deniedDomainReasons:
    "*:22": use https
`

func TestDecideNet(t *testing.T) {
	p := mustPolicy(t, testEnv, netPolicy)
	for _, c := range []struct {
		target string
		allow  bool
		reason event.Reason
		rule   string
	}{
		{"example.com:443", true, event.RuleAllowed, "p0.yaml:3"},
		{"EXAMPLE.com.:443", true, event.RuleAllowed, "p0.yaml:3"},
		{"example.com:25", false, event.PortDenied, "builtin:port-25"},
		{"mail.example.net:25", true, event.RuleAllowed, "p0.yaml:6"},
		{"mail.example.net:443", false, event.PortDenied, "builtin:default-deny"},
		{"example.com:22", false, event.RuleDenied, "p0.yaml:15"},
		{"example.com:8080", false, event.RuleDenied, "p0.yaml:18"},
		{"notexample.com:443", false, event.NotAllowed, "builtin:default-deny"},
		{"example.com.evil.net:443", false, event.NotAllowed, "builtin:default-deny"},
		{"sub.example.com:443", false, event.NotAllowed, "builtin:default-deny"},
		{"example.org:443", false, event.NotAllowed, "builtin:default-deny"}, // not the apex
		{"a.example.org:443", true, event.RuleAllowed, "p0.yaml:4"},
		{"a.b.example.org:1", true, event.RuleAllowed, "p0.yaml:4"},
		{"xexample.org:443", false, event.NotAllowed, "builtin:default-deny"},
		{"bad.example.org:443", false, event.RuleDenied, "p0.yaml:13"},
		{"x.worse.example.org:443", false, event.RuleDenied, "p0.yaml:14"},
		{"worse.example.org:443", true, event.RuleAllowed, "p0.yaml:4"},
		{"no.example.com:443", false, event.RuleDenied, "p0.yaml:16"}, // denial wins
		{"api.example.net:8443", true, event.RuleAllowed, "p0.yaml:5"},
		{"api.example.net:443", false, event.PortDenied, "builtin:default-deny"},
		{"xn--bcher-kva.example:443", true, event.RuleAllowed, "p0.yaml:10"},
		{"198.51.100.7:443", true, event.RuleAllowed, "p0.yaml:7"},
		{"[::ffff:198.51.100.7]:443", true, event.RuleAllowed, "p0.yaml:7"},
		{"198.51.100.7:25", false, event.AddressDenied, "builtin:address-documentation"},
		{"198.51.100.7:22", false, event.RuleDenied, "p0.yaml:15"},
		{"10.1.2.3:5432", true, event.RuleAllowed, "p0.yaml:8"},
		{"10.1.9.3:5432", false, event.RuleDenied, "p0.yaml:17"},
		{"10.1.2.3:5433", false, event.AddressDenied, "builtin:address-private"},
		{"[2001:db8::1]:443", true, event.RuleAllowed, "p0.yaml:9"},
		{"[2001:db8::2]:443", false, event.AddressDenied, "builtin:address-documentation"},
		{"8.8.8.8:53", false, event.AddressLiteral, "builtin:address-literal"},
		{"127.0.0.1:80", false, event.AddressDenied, "builtin:address-loopback"},
		{"93.184.216.34:80", false, event.AddressDenied, "builtin:address-host"},
	} {
		d := p.DecideNet(target(t, c.target))
		if d.Allowed() != c.allow || d.Reason != c.reason || d.Rule.String() != c.rule {
			t.Errorf("%s: %v %v %v; want allow=%v %v %v", c.target, d.Verdict, d.Reason, d.Rule, c.allow, c.reason, c.rule)
		}
		if d.Ask {
			t.Errorf("%s: may be asked, and nobody is there to ask", c.target)
		}
	}
	if d := p.DecideNet(target(t, "x.org:22")); d.Text != "use https" {
		t.Errorf("the author's reason is %q", d.Text)
	}
}

func TestDecideNetRefusesWhatParseHostDidNotMake(t *testing.T) {
	p := mustPolicy(t, testEnv, netPolicy)
	for _, r := range []NetRequest{
		{}, {Host{Name: "example.com"}, 0}, {Host{}, 443},
		{Host{Name: "EXAMPLE.COM"}, 443}, {Host{Name: "BAD.example.org"}, 443},
		{Host{Name: "bad.example.org."}, 443}, {Host{Name: "evil\x00.example.org"}, 443},
		{Host{Name: "example.com", Addr: netip.MustParseAddr("198.51.100.7")}, 443},
		{Host{Addr: netip.MustParseAddr("::ffff:198.51.100.7")}, 443},
		{Host{Addr: netip.MustParseAddr("fe80::1%lo")}, 443},
	} {
		if d := p.DecideNet(r); d.Allowed() {
			t.Errorf("%+v is allowed by %v", r, d.Rule)
		}
	}
}

func TestNoPolicyMeansNoNetwork(t *testing.T) {
	p := mustPolicy(t, testEnv)
	for _, s := range []string{"example.com:443", "localhost:80", "8.8.8.8:53", "[::1]:1"} {
		if d := p.DecideNet(target(t, s)); d.Allowed() {
			t.Errorf("%s is allowed", s)
		}
	}
	if p.DecideName(Host{Name: "example.com"}).Allowed() {
		t.Error("a look-up is allowed")
	}
}

func TestDecideResolvedChecksWhereANameLeads(t *testing.T) {
	p := mustPolicy(t, testEnv, `network:
  allowedDomains:
    - example.com
    - 10.0.0.5:443
    - 172.16.0.0/12
    - 100.64.0.0/10
    - 169.254.0.0/16
    - "[64:ff9b::/96]"
    - 127.0.0.2
    - 203.0.113.9
  deniedDomains: [8.8.4.0/24]
  deniedResolvedAddresses: [1.1.1.0/24, 203.0.113.0/24]
`)
	req := target(t, "example.com:443")
	for addr, want := range map[string]string{
		"93.184.216.35":      "allow p0.yaml:3",
		"2606:2800::1":       "allow p0.yaml:3",
		"10.0.0.5":           "allow p0.yaml:3",
		"::ffff:10.0.0.5":    "allow p0.yaml:3",
		"172.20.1.1":         "allow p0.yaml:3",
		"127.0.0.2":          "allow p0.yaml:3",
		"203.0.113.9":        "allow p0.yaml:3", // its own entry opens it
		"169.254.9.9":        "allow p0.yaml:3",
		"64:ff9b::5db8:d823": "allow p0.yaml:3", // carries 93.184.216.35
		"8.8.4.4":            "deny p0.yaml:11",
		"1.1.1.1":            "deny p0.yaml:12",
		"203.0.113.8":        "deny p0.yaml:12",
		"10.0.0.6":           "deny builtin:address-private",
		"93.184.216.34":      "deny builtin:address-host",
		"192.168.7.7":        "deny builtin:address-host",
		"100.100.100.200":    "deny builtin:address-metadata", // a prefix does not open it
		"169.254.169.254":    "deny builtin:address-metadata",
		"64:ff9b::7f00:1":    "deny builtin:address-loopback", // what it carries counts
		"64:ff9b::808:404":   "deny p0.yaml:11",
		"fe80::1%lo":         "deny builtin:invalid-request",
	} {
		d := p.DecideResolved(req, netip.MustParseAddr(addr))
		if got := d.Verdict.String() + " " + d.Rule.String(); got != want {
			t.Errorf("%s: %s, want %s", addr, got, want)
		}
	}
	if p.DecideResolved(req, netip.Addr{}).Allowed() {
		t.Error("no address is allowed")
	}
	if p.DecideResolved(target(t, "example.com:25"), netip.MustParseAddr("93.184.216.35")).Allowed() {
		t.Error("a denied port is allowed once resolved")
	}
	if p.DecideResolved(target(t, "10.0.0.5:80"), netip.MustParseAddr("10.0.0.5")).Allowed() {
		t.Error("a literal is allowed on a port without an entry")
	}
	if p.DecideResolved(target(t, "10.0.0.5:443"), netip.MustParseAddr("172.20.1.1")).Allowed() {
		t.Error("a literal leads somewhere else")
	}
	if !p.DecideResolved(target(t, "10.0.0.5:443"), netip.MustParseAddr("10.0.0.5")).Allowed() {
		t.Error("an allowed literal is denied")
	}
}

func TestEverySpecialAddressIsDeniedAndNamed(t *testing.T) {
	p := mustPolicy(t, testEnv, `network: {allowedDomains: [example.com]}`)
	req := target(t, "example.com:443")
	for addr, class := range map[string]string{
		"0.0.0.0": "unspecified", "0.1.2.3": "unspecified", "::": "unspecified",
		"127.0.0.1": "loopback", "127.255.255.254": "loopback", "::1": "loopback",
		"::ffff:127.0.0.1": "loopback", "10.255.255.255": "private", "172.31.0.1": "private",
		"192.168.0.1": "private", "fd12::1": "private", "fc00::1": "private", "fec0::1": "private",
		"100.64.0.1": "shared", "100.127.255.255": "shared", "169.254.1.1": "link-local",
		"fe80::1": "link-local", "febf::1": "link-local",
		"192.0.0.1": "protocol", "192.0.0.170": "protocol", "192.0.2.1": "documentation",
		"198.51.100.1": "documentation", "203.0.113.1": "documentation", "2001:db8::1": "documentation",
		"3fff::1": "documentation", "198.18.0.1": "benchmark", "198.19.255.255": "benchmark",
		"2001:2::1": "benchmark", "192.88.99.1": "relay", "224.0.0.1": "multicast",
		"239.255.255.255": "multicast", "ff02::1": "multicast", "240.0.0.1": "reserved",
		"255.255.255.255": "broadcast", "::7f00:1": "compatible", "::ffff:0:7f00:1": "translated",
		"64:ff9b::1": "nat64", "64:ff9b:1::1": "nat64", "2002:7f00:1::": "6to4", "2001::1": "teredo",
		"2001:20::1": "protocol", "2001:1::1": "protocol", "100::1": "discard", "100:0:0:1::1": "discard",
		"5f00::1": "segment", "4000::1": "unallocated", "1::1": "unallocated",
		"169.254.169.254": "metadata", "169.254.170.2": "metadata", "168.63.129.16": "metadata",
		"100.100.100.200": "metadata", "192.0.0.192": "metadata", "fd00:ec2::254": "metadata",
		"fd00:ec2:ffff::1": "metadata", "fd20:ce::254": "metadata",
	} {
		d := p.DecideResolved(req, netip.MustParseAddr(addr))
		if d.Allowed() || d.Reason != event.AddressDenied || d.Rule.String() != "builtin:address-"+class {
			t.Errorf("%s: %v by %v, want builtin:address-%s", addr, d.Verdict, d.Rule, class)
		}
		if d.Text == "" {
			t.Errorf("%s: nothing is said about it", addr)
		}
		if class == "metadata" && d.Fix != "" {
			t.Errorf("%s: it is proposed to open a metadata service: %s", addr, d.Fix)
		}
	}
	for _, addr := range []string{"8.8.8.8", "1.1.1.1", "9.255.255.255", "11.0.0.0", "100.63.255.255",
		"100.128.0.0", "172.15.0.1", "172.32.0.1", "192.0.1.1", "198.17.0.1", "198.20.0.1", "223.255.255.255",
		"2606:4700::1111", "2a00:1450::1", "2001:4860::8888", "2620:fe::fe"} {
		if d := p.DecideResolved(req, netip.MustParseAddr(addr)); !d.Allowed() {
			t.Errorf("%s, an ordinary address, is denied by %v", addr, d.Rule)
		}
	}
}

func TestAMetadataAddressOpensOnlyByItself(t *testing.T) {
	const literal = "169.254.169.254"
	p := mustPolicy(t, testEnv, `network: {allowedDomains: ["`+literal+`:80"]}`)
	if !p.DecideNet(target(t, literal+":80")).Allowed() || p.DecideNet(target(t, literal+":443")).Allowed() {
		t.Error("the entry opens not exactly its own port")
	}
}

func TestDecideName(t *testing.T) {
	p := mustPolicy(t, testEnv, `network:
  allowedDomains: [example.com, "ssh.example.com:22", "web.example.com:443", "*.example.org"]
  deniedDomains: ["*:22", bad.example.org, "web.example.com:80"]
`)
	for name, want := range map[string]string{
		"example.com":     "allow p0.yaml:2",
		"web.example.com": "allow p0.yaml:2",
		"a.example.org":   "allow p0.yaml:2",
		"ssh.example.com": "deny builtin:default-deny", // its one port is denied
		"bad.example.org": "deny p0.yaml:3",
		"example.net":     "deny builtin:default-deny",
	} {
		d := p.DecideName(Host{Name: name})
		if got := d.Verdict.String() + " " + d.Rule.String(); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
	for _, h := range []Host{{}, {Addr: netip.MustParseAddr("8.8.8.8")}, {Name: "A.example.org"}} {
		if p.DecideName(h).Allowed() {
			t.Errorf("%+v may be looked up", h)
		}
	}
}

func TestDenyingEverythingWins(t *testing.T) {
	p := mustPolicy(t, testEnv, `network: {allowedDomains: [example.com, 8.8.8.8], deniedDomains: ["*"]}`)
	for _, s := range []string{"example.com:443", "8.8.8.8:53"} {
		if p.DecideNet(target(t, s)).Allowed() {
			t.Errorf("%s is allowed", s)
		}
	}
	if p.DecideName(Host{Name: "example.com"}).Allowed() {
		t.Error("a look-up is allowed")
	}
}

func TestAskingIsOnlyForWhatNothingForbids(t *testing.T) {
	const text = `{ask: {via: [tty]}, network: {allowedDomains: [a.example.com], deniedDomains: [b.example.com]%s}}`
	p := mustPolicy(t, testEnv, fmt.Sprintf(text, ""))
	if d := p.DecideNet(target(t, "c.example.com:443")); d.Allowed() || !d.Ask {
		t.Errorf("an unlisted host: %+v", d)
	}
	if d := p.DecideName(Host{Name: "c.example.com"}); !d.Allowed() {
		t.Error("an askable name is not looked up")
	}
	for _, s := range []string{"b.example.com:443", "169.254.169.254:80", "10.0.0.1:80"} {
		if d := p.DecideNet(target(t, s)); d.Ask || d.Allowed() {
			t.Errorf("%s: %+v", s, d)
		}
	}
	strict := mustPolicy(t, testEnv, fmt.Sprintf(text, ", strictAllowlist: true"))
	if strict.DecideNet(target(t, "c.example.com:443")).Ask || strict.DecideName(Host{Name: "c.example.com"}).Allowed() {
		t.Error("a strict allowlist asks")
	}
}

func TestFixOfANetDenialAllowsIt(t *testing.T) {
	for _, s := range []string{"example.com:443", "example.com:80", "example.com:22", "example.com:25",
		"8.8.8.8:53", "[2606:4700::1]:443", "10.0.0.1:5432", "[fd00::1]:80"} {
		req := target(t, s)
		fix := mustPolicy(t, testEnv).DecideNet(req).Fix
		flag, yaml, ok := strings.Cut(fix, " (")
		if !ok {
			t.Errorf("%s: no fix but %q", s, fix)
			continue
		}
		value := strings.Trim(strings.TrimPrefix(flag, FlagAllowDomain+" "), "'")
		p, err := New(testEnv, FromFlags(Flags{{FlagAllowDomain, value}}))
		if err != nil || !p.DecideNet(req).Allowed() {
			t.Errorf("%s: %s does not allow it (%v)", s, flag, err)
		}
		key, list, _ := strings.Cut(strings.TrimSuffix(yaml, ")"), ": ")
		section, name, _ := strings.Cut(key, ".")
		p = mustPolicy(t, testEnv, section+":\n  "+name+": "+list+"\n")
		if !p.DecideNet(req).Allowed() {
			t.Errorf("%s: %s does not allow it", s, yaml)
		}
	}
}

func TestNoSNIRule(t *testing.T) {
	p := mustPolicy(t, testEnv, `network:
  allowedDomains: [example.com]
  rules:
    - {host: old.example.com, port: 443, noSNI: allow}
    - {host: other.example.com, noSNI: deny}
`)
	if r, ok := p.AllowNoSNI(target(t, "old.example.com:443")); !ok || r.String() != "p0.yaml:4" {
		t.Errorf("got %v %v", r, ok)
	}
	for _, s := range []string{"old.example.com:444", "other.example.com:443", "example.com:443"} {
		if _, ok := p.AllowNoSNI(target(t, s)); ok {
			t.Errorf("%s needs no server name", s)
		}
	}
}

func BenchmarkDecide(b *testing.B) {
	var text strings.Builder
	text.WriteString("network:\n  allowedDomains:\n")
	for i := range 8000 {
		fmt.Fprintf(&text, "    - h%d.example.com\n    - \"*.d%d.example.org\"\n", i, i)
	}
	for i := range 2000 {
		fmt.Fprintf(&text, "    - 10.%d.%d.0/%d\n", i/256, i%256, 24+i%2*0)
	}
	text.WriteString("  deniedDomains:\n")
	for i := range 2000 {
		fmt.Fprintf(&text, "    - bad%d.example.org\n", i)
	}
	p := mustPolicy(b, testEnv, text.String())
	for _, s := range []string{"h7999.example.com:443", "a.b.c.d.e.d7999.example.org:443",
		"nowhere.example.net:443", "10.7.200.9:443", "8.8.8.8:443", "[2606:4700::1]:443"} {
		req := target(b, s)
		b.Run(s, func(b *testing.B) {
			for b.Loop() {
				p.DecideNet(req)
			}
		})
	}
	req, addr := target(b, "h1.example.com:443"), netip.MustParseAddr("93.184.216.35")
	b.Run("resolved", func(b *testing.B) {
		for b.Loop() {
			p.DecideResolved(req, addr)
		}
	})
	b.Run("file.write", func(b *testing.B) {
		for b.Loop() {
			p.DecideFile(event.FileWrite, "/home/u/proj/src/internal/package/file.go")
		}
	})
}
