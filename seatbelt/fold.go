package seatbelt

import (
	"strings"
	"unicode/utf8"
)

// ligatures are pairs of letters for which Unicode has one character that a
// volume without cases takes for both (full case folding: U+FB00 to U+FB06,
// U+00DF).
var ligatures = []string{"ff", "fi", "fl", "st", "ss"}

// beyond matches characters outside ASCII; how many the kernel's engine takes
// one for is not known.
const beyond = `[^ -~]+`

// foldName gives the expression for a name in any case, and in what else a
// volume that does not tell cases apart takes for the same: the Kelvin sign is
// a k, the long s an s.
func foldName(s string) string {
	var out strings.Builder
	for s != "" {
		if s[0] >= utf8.RuneSelf {
			for s != "" && s[0] >= utf8.RuneSelf {
				s = s[1:]
			}
			out.WriteString(beyond)
			continue
		}
		n := ligatureLen(s)
		if n == 2 {
			out.WriteString(`(` + foldByte(s[0]) + foldByte(s[1]) + `|` + beyond + `)`)
		} else {
			out.WriteString(foldByte(s[0]))
		}
		s = s[n:]
	}
	return out.String()
}

func ligatureLen(s string) int {
	for _, l := range ligatures {
		if len(s) >= 2 && strings.EqualFold(s[:2], l) {
			return 2
		}
	}
	return 1
}

func foldByte(c byte) string {
	lower, upper := c, c
	switch {
	case 'A' <= c && c <= 'Z':
		lower = c + 'a' - 'A'
	case 'a' <= c && c <= 'z':
		upper = c - ('a' - 'A')
	default:
		return escapeRegex(c)
	}
	class := `[` + string(lower) + string(upper) + `]`
	if lower == 'k' || lower == 's' {
		return `(` + class + `|` + beyond + `)`
	}
	return class
}

func foldNames(names []string) []string {
	out := make([]string, len(names))
	for i, n := range names {
		out[i] = foldName(n)
	}
	return out
}

// foldGlob is foldName for a protected name, in which a * may be.
func foldGlob(s string) string {
	parts := strings.Split(s, "*")
	for i, p := range parts {
		parts[i] = foldName(p)
	}
	return strings.Join(parts, `[^/]*`)
}
