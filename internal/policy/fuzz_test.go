package policy

import (
	"errors"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/sallyport/sallyport/internal/event"
)

func FuzzParse(f *testing.F) {
	f.Add([]byte(netPolicy))
	f.Add([]byte(`{"network": {"allowedDomains": ["a.b:80", "*.c.d"]}, "filesystem": {"denyRead": ["~", {"path": "x", "literal": true}]}}`))
	f.Add([]byte("network: {allowedDomains: [a.b:80]}\n---\n---\nmode: audit\n"))
	f.Add([]byte("<<: *a\n? b\n: !!c &d |\n  e\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		file, err := Parse(Source{Name: "f", Data: data})
		if err != nil {
			var es Errors
			if !errors.As(err, &es) || len(es) == 0 || file != nil {
				t.Fatalf("%v, %T: not a list of problems alone", file, err)
			}
			lines := strings.Count(string(data), "\n") + 1
			for _, e := range es {
				if e.Line < 0 || e.Line > lines || e.Message == "" {
					t.Errorf("problem out of the file: %+v", e)
				}
			}
			return
		}
		p, err := New(testEnv, file)
		if err != nil {
			return // .. after a wildcard is found when paths are made absolute
		}
		for _, l := range [][]PathRule{p.files.DenyRead, p.files.AllowRead, p.files.AllowWrite, p.files.DenyWrite} {
			for _, r := range l {
				if !cleanAbs(r.Path) {
					t.Errorf("path %q is not absolute and clean", r.Path)
				}
			}
		}
		for _, secret := range []string{"/home/u/.local/state/sallyport/x", "/home/u/.config/sallyport/policy.yaml"} {
			if p.DecideFile(event.FileRead, secret).Allowed() || p.DecideFile(event.FileWrite, secret).Allowed() {
				t.Errorf("a policy opens %s", secret)
			}
		}
	})
}

func FuzzParseHost(f *testing.F) {
	for _, s := range []string{"example.com", "bücher.de", "[::1]", "１２７.0.0.1", "xn--a", "0x7f.1", "a\x00.b", "::ffff:1.2.3.4"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		checkAgainstOracle(t, s)
		h, err := ParseHost(s)
		if err != nil {
			if h != (Host{}) {
				t.Fatalf("%q: an error and the host %v", s, h)
			}
			return
		}
		if !h.valid() {
			t.Fatalf("%q gave %+v, which is not canonical", s, h)
		}
		if again, err := ParseHost(h.String()); err != nil || again != h {
			t.Fatalf("%q gave %v, and that gave %v, %v", s, h, again, err)
		}
		if strings.ContainsAny(s, "\x00@% /\\") {
			t.Fatalf("%q is taken for a host", s)
		}
	})
}

func FuzzParseNetTarget(f *testing.F) {
	for _, s := range []string{"example.com:443", "[::1]:80", "192.0.2.1:1", "a:b:1", ":1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		req, err := ParseNetTarget(s)
		if err != nil {
			return
		}
		host := req.Host.String()
		if req.Host.IsAddr() && req.Host.Addr.Is6() {
			host = "[" + host + "]"
		}
		i := strings.LastIndexByte(s, ':')
		if again, err := ParseNetTarget(host + s[i:]); err != nil || again != req || req.Port == 0 || !req.Host.valid() {
			t.Fatalf("%q gave %v, and that gave %v, %v", s, req, again, err)
		}
	})
}

func FuzzMatchGlob(f *testing.F) {
	for _, s := range [][2]string{{"/a/*", "/a/b"}, {"/**/x", "/a/x/y"}, {"/[a-c]?", "/bé"}, {"/***/[", "/x"}} {
		f.Add(s[0], s[1])
	}
	f.Fuzz(func(t *testing.T, pattern, path string) {
		if len(pattern) > 64 || len(path) > 256 || !strings.HasPrefix(pattern, "/") || !cleanAbs(path) {
			return
		}
		got := MatchGlob(pattern, path)
		if got && path != "/" && !MatchGlob(pattern, strings.TrimSuffix(path, "/")+"/below") {
			t.Errorf("%q covers %q and not what is below", pattern, path)
		}
		if exact := escapeGlob(path); utf8.ValidString(path) && !MatchGlob(exact, path) {
			t.Errorf("%q, escaped as %q, does not match itself", path, exact)
		}
		if !strings.ContainsAny(pattern, "*?[") && got != (pattern == "/" || within(path, pattern)) {
			t.Errorf("%q without a wildcard: %v for %q", pattern, got, path)
		}
	})
}
