package event

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Text is a string of bytes that an attacker may have chosen: a path, an
// argument, a host name. It survives JSON byte for byte: every backslash is
// written doubled and every byte that is not valid UTF-8 as \xNN; the rest is
// left to the JSON encoder.
type Text string

// MarshalText implements encoding.TextMarshaler.
func (t Text) MarshalText() ([]byte, error) {
	s := string(t)
	if utf8.ValidString(s) && !strings.ContainsRune(s, '\\') {
		return []byte(s), nil
	}
	out := make([]byte, 0, len(s)+8)
	for len(s) > 0 {
		r, n := utf8.DecodeRuneInString(s)
		switch {
		case r == '\\':
			out = append(out, `\\`...)
		case r == utf8.RuneError && n == 1:
			out = fmt.Appendf(out, `\x%02x`, s[0])
		default:
			out = append(out, s[:n]...)
		}
		s = s[n:]
	}
	return out, nil
}

// UnmarshalText implements encoding.TextUnmarshaler.
func (t *Text) UnmarshalText(b []byte) error {
	s := string(b)
	if !strings.ContainsRune(s, '\\') {
		*t = Text(s)
		return nil
	}
	var out strings.Builder
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] != '\\':
			out.WriteByte(s[i])
		case i+1 < len(s) && s[i+1] == '\\':
			out.WriteByte('\\')
			i++
		case i+3 < len(s) && s[i+1] == 'x':
			c, err := strconv.ParseUint(s[i+2:i+4], 16, 8)
			if err != nil {
				return fmt.Errorf("decode text: byte %d: bad escape %q", i, s[i:i+4])
			}
			out.WriteByte(byte(c))
			i += 3
		default:
			return fmt.Errorf("decode text: byte %d: lone backslash", i)
		}
	}
	*t = Text(out.String())
	return nil
}

// Printable returns t for a terminal: control and formatting characters
// (bidirectional overrides, zero-width joiners), line separators and bytes that
// are not UTF-8 are shown as escapes, so that nothing in t can move the cursor,
// change colours or reorder what is read.
func (t Text) Printable() string {
	var out strings.Builder
	for s := string(t); len(s) > 0; {
		r, n := utf8.DecodeRuneInString(s)
		switch {
		case r == utf8.RuneError && n == 1, r < 0x80 && unicode.IsControl(r):
			fmt.Fprintf(&out, `\x%02x`, s[0])
		case r == '\\':
			out.WriteString(`\\`)
		case r != ' ' && !unicode.IsPrint(r):
			fmt.Fprintf(&out, `\u{%x}`, r)
		default:
			out.WriteString(s[:n])
		}
		s = s[n:]
	}
	return out.String()
}
