package policy

import (
	"net/netip"
	"strings"
	"testing"
)

func TestParseHostMakesOneFormOrRefuses(t *testing.T) {
	for _, c := range []struct{ name, in, want string }{
		{"plain", "example.com", "example.com"},
		{"upper case", "OK.com", "ok.com"},
		{"trailing dot", "ok.com.", "ok.com"},
		{"ideographic full stop", "ok。com", "ok.com"},
		{"full-width trailing dot", "ok.com．", "ok.com"},
		{"full-width letters", "ＯＫ.com", "ok.com"},
		{"soft hyphen vanishes", "o\u00adk.com", "ok.com"},
		{"umlaut", "bücher.de", "xn--bcher-kva.de"},
		{"punycode in capitals", "XN--BCHER-KVA.de", "xn--bcher-kva.de"},
		{"hyphens in third and fourth place", "r3---sn-a.googlevideo.com", "r3---sn-a.googlevideo.com"},
		{"underscore", "_dmarc.example.com", "_dmarc.example.com"},
		{"IPv4", "192.0.2.1", "192.0.2.1"},
		{"IPv4 with a dot", "192.0.2.1.", "192.0.2.1"},
		{"full-width digits are an address", "１２７.0.0.1", "127.0.0.1"},
		{"IPv6", "2001:DB8::1", "2001:db8::1"},
		{"bracketed IPv6", "[::1]", "::1"},
		{"mapped IPv4", "::ffff:192.0.2.1", "192.0.2.1"},
		{"single label", "localhost", "localhost"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h, err := ParseHost(c.in)
			if err != nil || h.String() != c.want {
				t.Fatalf("ParseHost(%q) = %q, %v; want %q", c.in, h, err, c.want)
			}
			if again, err := ParseHost(h.String()); err != nil || again != h {
				t.Errorf("ParseHost(%q) = %q, %v; not itself again", h, again, err)
			}
		})
	}
	for _, c := range []struct{ name, in string }{
		{"empty", ""}, {"dot", "."}, {"dots", ".."}, {"empty label", "ok..com"},
		{"two trailing dots", "192.0.2.1.."},
		{"NUL", "evil\x00.ok.com"}, {"newline", "ok.com\n"}, {"escape", "ok\x1b.com"},
		{"delete", "ok\x7f.com"}, {"space", "ok .com"}, {"userinfo", "user@ok.com"},
		{"percent", "ok%2ecom"}, {"slash", "ok.com/x"}, {"backslash", `ok.com\x`},
		{"question mark", "ok.com?x"}, {"wildcard", "*.ok.com"}, {"quote", `"ok.com"`},
		{"zone", "fe80::1%lo"}, {"bracketed zone", "[fe80::1%25lo]"},
		{"short IPv4", "127.1"}, {"hexadecimal", "0x7f.1"}, {"decimal", "2130706433"},
		{"octal", "0177.0.0.1"}, {"zero", "0"}, {"hexadecimal label", "a.0x7f"},
		{"last label a number", "ok.com.1"}, {"full-width number", "１２７.1"},
		{"half a bracket", "[::1"}, {"IPv4 in brackets", "[192.0.2.1]"}, {"port", "ok.com:80"},
		{"punycode of ASCII", "xn--abc-.com"}, {"punycode junk", "xn--a.com"},
		{"zero-width joiner", "a\u200db.com"}, {"bidi override", "a\u202eb.com"},
		{"long label", strings.Repeat("a", 64) + ".com"},
		{"long name", strings.Repeat("abcdefgh.", 32) + "com"},
		{"endless", strings.Repeat("a", 1<<16)},
		{"not UTF-8", "ok\xff.com"},
	} {
		t.Run("refuses "+c.name, func(t *testing.T) {
			if h, err := ParseHost(c.in); err == nil || h != (Host{}) {
				t.Errorf("ParseHost(%q) = %q, %v; want an error and no host", c.in, h, err)
			}
		})
	}
}

func TestParseNetTargetWantsAHostAndAPort(t *testing.T) {
	for in, want := range map[string]NetRequest{
		"example.com:443": {Host{Name: "example.com"}, 443},
		"192.0.2.1:80":    {Host{Addr: netip.MustParseAddr("192.0.2.1")}, 80},
		"[::1]:65535":     {Host{Addr: netip.MustParseAddr("::1")}, 65535},
	} {
		if got, err := ParseNetTarget(in); err != nil || got != want {
			t.Errorf("ParseNetTarget(%q) = %v, %v; want %v", in, got, err, want)
		}
	}
	for _, in := range []string{"", ":", "example.com", "example.com:", "example.com:0",
		"example.com:065", "example.com:65536", "example.com:+80", "example.com:http", "[::1]",
		"::1:80", ":80", "a:b:80", "ok.com:443.evil.com:80", "[::1]x:80"} {
		if got, err := ParseNetTarget(in); err == nil {
			t.Errorf("ParseNetTarget(%q) = %v; want an error", in, got)
		}
	}
}
