package policy

import (
	"math/rand/v2"
	"net/netip"
	"regexp"
	"strings"
	"testing"
)

// The oracle says slowly, and sharing nothing with the code under test, what
// the canonical form of a destination in ASCII is. What is written in other
// scripts, or as punycode, it only knows to be no address and no other name.

var (
	oracleLabels  = regexp.MustCompile(`^[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*$`)
	oracleNumber  = regexp.MustCompile(`(^|\.)(0x[^.]*|[0-9]+)$`)
	oracleForeign = regexp.MustCompile(`[^\x00-\x7f]|(?i:xn--)`)
)

// oracleHost gives the canonical form, "" for what must be refused; known is
// false where it cannot tell.
func oracleHost(s string) (form string, known bool) {
	if strings.ContainsAny(s, "\x00 %@/\\") {
		return "", true
	}
	if oracleForeign.MatchString(s) {
		return "", false
	}
	if inner, ok := strings.CutPrefix(s, "["); ok && strings.HasSuffix(inner, "]") && strings.Contains(s, ":") {
		s = strings.TrimSuffix(inner, "]")
	}
	name := strings.TrimSuffix(strings.ToLower(s), ".")
	if strings.Contains(s, ":") {
		name = s
	}
	if a, err := netip.ParseAddr(name); err == nil {
		return a.Unmap().String(), true
	}
	if len(name) > 253 || !oracleLabels.MatchString(name) || oracleNumber.MatchString(name) {
		return "", true
	}
	return name, true
}

func checkAgainstOracle(t *testing.T, s string) {
	t.Helper()
	h, err := ParseHost(s)
	if want, known := oracleHost(s); known && (err == nil) != (want != "") || known && err == nil && h.String() != want {
		t.Errorf("ParseHost(%q) = %q, %v; the oracle says %q", s, h, err, want)
	}
	// The short cut around IDNA leads where IDNA does.
	if mapsToItself(s) {
		if long, err := lookupProfile.ToASCII(s); err != nil || long != strings.ToLower(s) {
			t.Errorf("%q is %q by IDNA, %v", s, long, err)
		}
	}
}

func TestCanonicalFormAgreesWithTheOracle(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	parts := []string{"a", "Z", "0", "9", "-", "--", "_", ".", "..", "x", "xn", "xn--", "XN--a", "0x", "com", "127", "255", "1.2.3.4", ":", "::",
		"[", "]", "%", "@", "\x00", " ", "/", "ü", "。", "１", "\u00ad", "ß", "example", strings.Repeat("l", 62), strings.Repeat("m.", 120)}
	for range 40_000 {
		var b strings.Builder
		for range 1 + r.IntN(6) {
			b.WriteString(parts[r.IntN(len(parts))])
		}
		checkAgainstOracle(t, b.String())
		if t.Failed() {
			return
		}
	}
}

func BenchmarkParseHost(b *testing.B) {
	for _, s := range []string{"registry.npmjs.org", "Registry.NPMjs.org", "bücher.example.com", "192.0.2.1"} {
		b.Run(s, func(b *testing.B) {
			b.ReportAllocs()
			for range b.N {
				if _, err := ParseHost(s); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
