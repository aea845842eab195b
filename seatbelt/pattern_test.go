package seatbelt

import (
	"math/rand/v2"
	"path"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/internal/policy"
)

// patternMatches evaluates a pattern as a profile does, for both engines.
func patternMatches(p pattern, s string) (bytes, chars bool) {
	if !within(s, p.base) {
		return false, false
	}
	re := p.cover(0)
	return (&machine{bytes: true}).regex(re, s), (&machine{}).regex(re, s)
}

func TestPatternsMatchWhatThePolicysDo(t *testing.T) {
	for _, tt := range []struct {
		pattern string
		yes, no []string
	}{
		{"/a/*", []string{"/a/b", "/a/b/c", "/a/\n", "/a/.x"}, []string{"/a", "/b/a", "/ab"}},
		{"/a/*.pem", []string{"/a/.pem", "/a/x.pem", "/a/x.pem/y", "/a/é.pem"}, []string{"/a/x.pems", "/a/b/x.pem", "/a/xpem"}},
		{"/a/?", []string{"/a/b", "/a/."}, []string{"/a/bc", "/a"}},
		{"/a/[b-d]x", []string{"/a/bx", "/a/dx"}, []string{"/a/ax", "/a/ex", "/a/x"}},
		{"/a/[]^-]x", []string{"/a/[]^-]x"}, []string{"/a/^x"}}, // an empty set is text
		{"/a/[^-_.]x", []string{"/a/^x", "/a/_x", "/a/.x"}, []string{"/a/ax", "/a/-x"}},
		{`/a/[\]x`, []string{`/a/\x`}, []string{"/a/x"}},
		{"/a/[!b]x", []string{"/a/!x", "/a/bx"}, []string{"/a/cx"}},
		{"/a/[+-9]x", []string{"/a/+x", "/a/0x", "/a/.x"}, []string{"/a//x", "/a/:x"}},
		{"/a/[b", []string{"/a/[b", "/a/[b/c"}, []string{"/a/b"}},
		{"/[[]a]/x*", []string{"/[a]/xy"}, []string{"/a/xy"}},
		{"/a/**/b", []string{"/a/b", "/a/x/b", "/a/x/y/b/z", "/a/\n/b"}, []string{"/a/xb", "/a/bx", "/b"}},
		{"/**/.env", []string{"/.env", "/x/.env", "/x/y/.env/z"}, []string{"/.envx", "/xenv"}},
		{"/a/(b)$^.|+{}*", []string{"/a/(b)$^.|+{}", "/a/(b)$^.|+{}x"}, []string{"/a/b", "/a/(b)$^x|+{}"}},
		{`/a/"\*`, []string{`/a/"\`, `/a/"\x`}, []string{`/a/"x`, `/a/x`}},
	} {
		for _, deny := range []bool{true, false} {
			p, err := parsePattern(tt.pattern, deny)
			if err != nil {
				t.Errorf("%s: %v", tt.pattern, err)
				continue
			}
			for _, s := range tt.yes {
				if b, c := patternMatches(p, s); !b || !c || !policy.MatchGlob(tt.pattern, s) {
					t.Errorf("%s does not match %q: bytes %v, chars %v, policy %v", tt.pattern, s, b, c, policy.MatchGlob(tt.pattern, s))
				}
			}
			for _, s := range tt.no {
				if b, c := patternMatches(p, s); b || c || policy.MatchGlob(tt.pattern, s) {
					t.Errorf("%s matches %q: bytes %v, chars %v, policy %v", tt.pattern, s, b, c, policy.MatchGlob(tt.pattern, s))
				}
			}
		}
	}
}

func TestWhereEnginesDifferADenialCoversMoreAndAPermissionLess(t *testing.T) {
	for _, tt := range []struct{ pattern, path string }{{"/a/?", "/a/é"}, {"/a/x?y", "/a/x日y"}, {"/a/?", "/a/\xff"}} {
		deny, _ := parsePattern(tt.pattern, true)
		if b, c := patternMatches(deny, tt.path); !b || !c {
			t.Errorf("%s does not deny %q: %v %v", tt.pattern, tt.path, b, c)
		}
	}
	allow, _ := parsePattern("/a/??", false)
	if b, _ := patternMatches(allow, "/a/éé"); b {
		t.Error("four bytes were taken for two characters")
	}
}

// What has ** twice or inside a name is said as near as it can be, on the safe
// side.
func TestPatternsBeyondOneDeepPartErrTowardsLess(t *testing.T) {
	for _, tt := range []struct{ pattern, path string }{
		{"/a/**/b/**/c", "/a/b/c"}, {"/a/**/b/**/c", "/a/x/b/y/c/z"}, {"/a/x**y", "/a/xy"}, {"/a/x**y", "/a/x1/2y"}, {"/a/x**y/*.z", "/a/x1/2y/3.z"},
		{"/a/**b/c", "/a/1/2b/c"}, {"/a/***/b", "/a/x/b"},
	} {
		if !policy.MatchGlob(tt.pattern, tt.path) {
			t.Errorf("the policy's %s does not match %s: the test is wrong", tt.pattern, tt.path)
		}
		for _, deny := range []bool{true, false} {
			p, err := parsePattern(tt.pattern, deny)
			if err != nil {
				t.Fatal(err)
			}
			if b, c := patternMatches(p, tt.path); !b || !c {
				t.Errorf("%s (deny %v) does not match %s", tt.pattern, deny, tt.path)
			}
			if deny && p.shape == shapeOdd {
				t.Errorf("%s: a denial of which nothing is known", tt.pattern)
			}
		}
	}
	r := rand.New(rand.NewPCG(5, 5))
	letters := []string{"a", "b", "/", "/", "x"}
	for _, pattern := range []string{"/a/**/b/**/x", "/a/x**b", "/a/**b/*", "/**/a/**", "/a/***/b"} {
		pattern := strings.TrimSuffix(pattern, "/**")
		deny, err1 := parsePattern(pattern, true)
		allow, err2 := parsePattern(pattern, false)
		if err1 != nil || err2 != nil {
			t.Fatal(err1, err2)
		}
		for range 2000 {
			s := "/a"
			for range r.IntN(9) {
				s += letters[r.IntN(len(letters))]
			}
			s = "/" + strings.Join(components(s), "/")
			want := policy.MatchGlob(pattern, s)
			if b, c := patternMatches(deny, s); want && (!b || !c) {
				t.Fatalf("%s does not deny %s", pattern, s)
			}
			if b, c := patternMatches(allow, s); !want && (b || c) {
				t.Fatalf("%s allows %s", pattern, s)
			}
		}
	}
}

func TestPatternsThatCannotBeSaidAreErrors(t *testing.T) {
	for _, s := range []string{"/a/é*", "/a/[éb]", "/a/*/日本", "/a/x**é"} {
		for _, deny := range []bool{true, false} {
			if p, err := parsePattern(s, deny); err == nil {
				t.Errorf("%s: %+v", s, p)
			}
		}
	}
	if p, err := parsePattern("/é/日本/*", true); err != nil || p.base != "/é/日本" {
		t.Errorf("names before the first wildcard: %+v, %v", p, err)
	}
}

func FuzzPattern(f *testing.F) {
	for _, s := range []string{"/a/*", "/**/b[c-e]/?", "/a/[]x]*", "/a/[z-a]*", "/***/x", `/a\[*`, "/a/[[]b*"} {
		f.Add(s, "/a/b/c")
	}
	f.Fuzz(func(t *testing.T, pattern, s string) {
		pattern = "/" + strings.Join(components(pattern), "/")
		s = "/" + strings.Join(components(s), "/")
		if len(pattern) > 100 || len(s) > 200 || path.Clean(pattern) != pattern || strings.HasSuffix(pattern, "/**") || pattern == "/*" || !isASCII(s) || s == "/" {
			return
		}
		deny, err := parsePattern(pattern, true)
		if err != nil {
			return
		}
		allow, err := parsePattern(pattern, false)
		if err != nil { // a denial may leave out what cannot be said
			return
		}
		want := policy.MatchGlob(pattern, s)
		if b, c := patternMatches(deny, s); want && (!b || !c) {
			t.Fatalf("%q does not deny %q: %v %v", pattern, s, b, c)
		}
		if b, c := patternMatches(allow, s); !want && (b || c) {
			t.Fatalf("%q allows %q: %v %v", pattern, s, b, c)
		}
	})
}
