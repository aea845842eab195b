package event

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

func TestTextSurvivesJSONByteForByte(t *testing.T) {
	for _, tt := range []struct{ name, text, json string }{
		{"empty", "", `""`},
		{"plain", "/etc/passwd", `"/etc/passwd"`},
		{"unicode", "/tmp/é日本", `"/tmp/é日本"`},
		{"backslash", `a\b`, `"a\\\\b"`},
		{"looks like an escape", `\xff`, `"\\\\xff"`},
		{"not UTF-8", "a\xffb\xc3", `"a\\xffb\\xc3"`},
		{"surrogate half", "\xed\xa0\x80", `"\\xed\\xa0\\x80"`},
		{"real replacement character", "\ufffd", "\"\ufffd\""},
		{"control characters", "\x00\x1b[31m\n", `"\u0000\u001b[31m\n"`},
		{"quote", `"`, `"\""`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b, err := json.Marshal(Text(tt.text))
			if err != nil {
				t.Fatal(err)
			}
			if string(b) != tt.json {
				t.Errorf("encoded as %s, want %s", b, tt.json)
			}
			var back Text
			if err := json.Unmarshal(b, &back); err != nil {
				t.Fatal(err)
			}
			if string(back) != tt.text {
				t.Errorf("decoded as %q, want %q", back, tt.text)
			}
		})
	}
}

func TestTextRefusesEscapesNobodyWrote(t *testing.T) {
	for _, s := range []string{`\`, `a\`, `\n`, `\x`, `\x1`, `\xzz`, `\x1z`, `\x 1`, `\x+1`, `\x-1`, `\X41`, `\\\`} {
		text := Text("kept")
		if err := text.UnmarshalText([]byte(s)); err == nil {
			t.Errorf("%q decoded as %q, want an error", s, text)
		} else if text != "kept" {
			t.Errorf("%q: a failed decode changed the value to %q", s, text)
		}
	}
}

func TestPrintableLeavesNothingATerminalObeys(t *testing.T) {
	for _, tt := range []struct{ name, text, want string }{
		{"plain", "git push origin", "git push origin"},
		{"letters of any script", "é日本ñ", "é日本ñ"},
		{"escape sequence", "\x1b]0;pwned\a", `\x1b]0;pwned\x07`},
		{"line break", "a\nb\r\tc", `a\x0ab\x0d\x09c`},
		{"delete", "\x7f", `\x7f`},
		{"C1 control", "\u009b31m", `\u{9b}31m`},
		{"bidirectional override", "a\u202egpj.exe", `a\u{202e}gpj.exe`},
		{"zero-width joiner", "a\u200db", `a\u{200d}b`},
		{"byte order mark", "\ufeffa", `\u{feff}a`},
		{"line separator", "a\u2028b", `a\u{2028}b`},
		{"no-break space", "a\u00a0b", `a\u{a0}b`},
		{"not UTF-8", "a\x9bb", `a\x9bb`},
		{"an escape that was typed", `\x1b`, `\\x1b`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := Text(tt.text).Printable(); got != tt.want {
				t.Errorf("Printable(%q) = %q, want %q", tt.text, got, tt.want)
			}
		})
	}
}

func FuzzText(f *testing.F) {
	for _, s := range []string{"", "/etc/passwd", `a\b`, `\x1z`, "\xff\xfe", "\x1b[2J", "a\u202eb", `\\x41`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		checkRoundTrip(t, s)
		checkPrintable(t, s)
		checkDecoding(t, s)
	})
}

func checkRoundTrip(t *testing.T, s string) {
	t.Helper()
	b, err := json.Marshal(Text(s))
	if err != nil {
		t.Fatalf("encode %q: %v", s, err)
	}
	var back Text
	if err := json.Unmarshal(b, &back); err != nil {
		t.Fatalf("decode %s: %v", b, err)
	}
	if string(back) != s {
		t.Fatalf("%q came back as %q", s, back)
	}
}

func checkPrintable(t *testing.T, s string) {
	t.Helper()
	p := Text(s).Printable()
	if !utf8.ValidString(p) {
		t.Fatalf("Printable(%q) = %q is not UTF-8", s, p)
	}
	if i := strings.IndexFunc(p, func(r rune) bool { return r != ' ' && !unicode.IsPrint(r) }); i >= 0 {
		t.Fatalf("Printable(%q) = %q: byte %d does not print", s, p, i)
	}
}

// checkDecoding takes s as an encoded text: what decodes must mean the same
// after one more trip.
func checkDecoding(t *testing.T, s string) {
	t.Helper()
	var text Text
	if text.UnmarshalText([]byte(s)) == nil {
		checkRoundTrip(t, string(text))
	}
}
