package policy

import (
	"errors"
	"strings"
	"testing"
)

// parentOf shows the proxy on the way to a target.
func parentOf(t *testing.T, p *Policy, target string) string {
	t.Helper()
	req, err := ParseNetTarget(target)
	if err != nil {
		t.Fatal(err)
	}
	q, byName := p.ParentFor(req)
	if q == nil {
		return "direct"
	}
	s := q.Host.String()
	if q.TLS {
		s += " tls"
	}
	if q.User != nil {
		s += " " + q.User.String()
	}
	if byName {
		s += " by name"
	}
	return s
}

func TestParentProxyIsFoundByPortAndDestination(t *testing.T) {
	for _, c := range []struct{ name, text, target, want string }{
		{"none", `{}`, "ok.test:443", "direct"},
		{"port 80", `network: {parentProxy: {http: "http://a.corp:3128", https: "https://u:p%40@b.corp"}}`, "ok.test:80", "a.corp"},
		{"another port", `network: {parentProxy: {http: "http://a.corp:3128", https: "https://u:p%40@b.corp"}}`, "ok.test:22", "b.corp tls u:p%40"},
		{"only http", `network: {parentProxy: {http: "http://a.corp:3128"}}`, "ok.test:443", "a.corp"},
		{"only https", `network: {parentProxy: {https: "http://10.0.0.1:3128/", byHostname: true}}`, "ok.test:80", "10.0.0.1 by name"},
		{"a plain address", `network: {parentProxy: {https: "http://[fd00::1]:3128"}}`, "93.184.216.34:80", "fd00::1"},
		{"exempt by name", `network: {parentProxy: {http: "http://a.corp", noProxy: "x.test, ok.test"}}`, "ok.test:443", "direct"},
		{"exempt below a name", `network: {parentProxy: {http: "http://a.corp", noProxy: "test"}}`, "ok.test:443", "direct"},
		{"not exempt", `network: {parentProxy: {http: "http://a.corp", noProxy: "k.test"}}`, "ok.test:443", "a.corp"},
		{"exempt on a port", `network: {parentProxy: {http: "http://a.corp", noProxy: "ok.test:22"}}`, "ok.test:22", "direct"},
		{"not exempt on another", `network: {parentProxy: {http: "http://a.corp", noProxy: "ok.test:22"}}`, "ok.test:443", "a.corp"},
		{"exempt by prefix", `network: {parentProxy: {http: "http://a.corp", noProxy: "10.0.0.0/8"}}`, "10.1.2.3:443", "direct"},
		{"all exempt", `network: {parentProxy: {http: "http://a.corp", noProxy: "*"}}`, "ok.test:443", "direct"},
		{"loopback never", `network: {parentProxy: {http: "http://a.corp"}}`, "127.0.0.1:443", "direct"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := parentOf(t, mustPolicy(t, testEnv, c.text), c.target); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}

func TestLaterParentProxyCounts(t *testing.T) {
	p := mustPolicy(t, testEnv, `network: {parentProxy: {http: "http://a.corp", byHostname: true}}`, `{}`,
		`network: {parentProxy: {http: "http://b.corp"}}`)
	if got := parentOf(t, p, "ok.test:443"); got != "b.corp" {
		t.Errorf("got %s", got)
	}
}

func TestParentProxyThatResolvesNamesBringsAWarning(t *testing.T) {
	for text, want := range map[string]int{
		"network:\n  parentProxy: {http: \"http://a.corp\", byHostname: true}":  1,
		"network:\n  parentProxy: {http: \"http://a.corp\", byHostname: false}": 0,
	} {
		got := mustPolicy(t, testEnv, text).Warnings()
		if len(got) != want || want > 0 && (got[0].Rule.Line != 2 || !strings.Contains(got[0].Message, "parent proxy")) {
			t.Errorf("%s: %+v", text, got)
		}
	}
}

func TestParentProxyMakesNothingReachable(t *testing.T) {
	p := mustPolicy(t, testEnv, `network: {parentProxy: {http: "http://a.corp:3128"}, allowedDomains: [ok.test]}`)
	for _, target := range []string{"a.corp:3128", "evil.test:443", "ok.test:25"} {
		req, _ := ParseNetTarget(target)
		if p.DecideNet(req).Allowed() {
			t.Errorf("%s is allowed", target)
		}
	}
}

func TestErrorAboutAParentProxyHasNoPassword(t *testing.T) {
	for _, u := range []string{"http://u:sesame@proxy:99999", "http://u:sesame@0x7f.1", "http://u:sesame@\x7f", "ftp://u:sesame@a.b",
		"http://u:sesame@a.b/x", "http://u%3av:sesame@a.b", "http://u:sesame@a b", "http://u:sesame"} {
		_, err := parseParent(u)
		if err == nil || strings.Contains(err.Error(), "sesame") {
			t.Errorf("%s: %v", u, err)
		}
		_, err = Parse(Source{Name: "p", Data: []byte("network: {parentProxy: {http: \"" + u + "\"}}")})
		var es Errors
		if !errors.As(err, &es) || strings.Contains(err.Error(), "sesame") {
			t.Errorf("%s: %v", u, err)
		}
	}
}

func TestUpgradeIsAllowedByARuleForHostAndPort(t *testing.T) {
	p := mustPolicy(t, testEnv, `network: {rules: [{host: ws.test, upgrade: allow}, {host: "*.ws.test", port: 8080, upgrade: allow},
		{host: no.test, upgrade: deny}, {host: tls.test, noSNI: allow}]}`)
	for target, want := range map[string]bool{"ws.test:80": true, "a.ws.test:8080": true, "a.ws.test:80": false,
		"no.test:80": false, "tls.test:80": false} {
		req, _ := ParseNetTarget(target)
		if _, ok := p.AllowUpgrade(req); ok != want {
			t.Errorf("%s: %v", target, ok)
		}
	}
	if _, ok := p.AllowNoSNI(NetRequest{Host: Host{Name: "ws.test"}, Port: 443}); ok {
		t.Error("one exception is another")
	}
}
