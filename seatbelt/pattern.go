package seatbelt

import (
	"fmt"
	"path"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/sallyport/sallyport/internal/policy"
)

// A policy's pattern (see the glob language of package policy) becomes a
// directory, which is passed as a parameter, and regular expressions for the
// names below it.

// shape says what is known of how deep a pattern matches.
type shape uint8

const (
	shapeOdd    shape = iota // of permissions only: any depth from a least one on
	shapeStatic              // exactly as deep as it is written
	shapeDeep                // one **/, any number of directories
)

// pattern is one pattern, for use in denials or in permissions: where the two
// kinds of engine, of bytes and of characters, could differ, a denial covers
// more and a permission less.
type pattern struct {
	shape shape
	base  string // before the first wildcard
	// head and tail are expressions for one name each, before and after **/;
	// a static pattern has only a head.
	head, tail []string
	odd        string // for all that is below base
	names      int    // least number of names below base; 0: it is base, no pattern
}

// depth is the least number of names in a path that the pattern matches.
func (p pattern) depth() int { return len(components(p.base)) + p.names }

const (
	anyName  = `[^/]+`
	anyPath  = `([^/]|/)*` // a dot may not match a line break
	belowEnd = `(/[^/]+)*$`
)

// parsePattern reads an absolute, clean pattern.
func parsePattern(s string, deny bool) (pattern, error) {
	p := pattern{base: "/", shape: shapeStatic}
	names := components(s)
	for len(names) > 0 {
		plain, ok := plainName(names[0])
		if !ok {
			break
		}
		p.base, names = path.Join(p.base, plain), names[1:]
	}
	for _, name := range names {
		if name == "**" && p.shape == shapeStatic {
			p.shape = shapeDeep
			continue
		}
		if strings.Contains(name, "**") {
			return p.asOdd(names, deny)
		}
		re, err := nameRegex(name, deny)
		if err != nil {
			return p, fmt.Errorf("pattern %s: %w", strconv.Quote(s), err)
		}
		if p.names++; p.shape == shapeDeep {
			p.tail = append(p.tail, re)
		} else {
			p.head = append(p.head, re)
		}
	}
	if p.shape == shapeDeep && len(p.tail) == 0 {
		return p, fmt.Errorf("pattern %s: no name after **", strconv.Quote(s))
	}
	return p, nil
}

// asOdd takes what has ** inside a name, or twice. A denial covers all that ends
// as the pattern does, so that it holds wherever directories are moved.
func (p pattern) asOdd(names []string, deny bool) (pattern, error) {
	text := strings.Join(names, "/")
	if !deny {
		re, err := nameRegex(text, false)
		return pattern{shape: shapeOdd, base: p.base, odd: re, names: 1}, err
	}
	i := strings.LastIndex(text, "**")
	last := text[i+2:]
	if whole := i == 0 || text[i-1] == '/'; !whole || !strings.HasPrefix(last, "/") {
		last = "/*" + strings.TrimPrefix(last, "/") // x**/y matches xy, too
	}
	return parsePattern(path.Join("/", escapePattern(p.base), "**")+last, true)
}

// escapePattern makes a pattern of a name.
func escapePattern(name string) string {
	return strings.NewReplacer("[", "[[]", "*", "[*]", "?", "[?]").Replace(name)
}

// plainName reads a name without wildcards; a set of one character stands for
// the character.
func plainName(s string) (string, bool) {
	var out strings.Builder
	for s != "" {
		switch s[0] {
		case '*', '?':
			return "", false
		case '[':
			if members, rest, ok := policy.GlobSet(s); ok {
				if len(members) != 2 || members[0] != members[1] {
					return "", false
				}
				out.WriteRune(members[0])
				s = rest
				continue
			}
		}
		out.WriteByte(s[0])
		s = s[1:]
	}
	return out.String(), true
}

// nameRegex gives the expression of a name, or, for an odd pattern, of several.
func nameRegex(s string, deny bool) (string, error) {
	if s == "*" {
		return anyName, nil // a name is never empty
	}
	var out strings.Builder
	for s != "" {
		switch c := s[0]; {
		case c == '*':
			s = stars(&out, s)
			continue
		case c == '?':
			out.WriteString(anyChar(deny))
		case c == '[':
			if pairs, rest, ok := policy.GlobSet(s); ok {
				re, err := setRegex(pairs)
				if err != nil {
					return "", err
				}
				out.WriteString(re)
				s = rest
				continue
			}
			out.WriteString(escapeRegex(c))
		case c >= utf8.RuneSelf:
			return "", fmt.Errorf("only ASCII can be in the part that begins with a wildcard: write the names out")
		default:
			out.WriteString(escapeRegex(c))
		}
		s = s[1:]
	}
	return out.String(), nil
}

// stars writes a run of stars; the last two go with a slash that follows.
func stars(out *strings.Builder, s string) (rest string) {
	rest = strings.TrimLeft(s, "*")
	n := len(s) - len(rest)
	dirs := n >= 2 && strings.HasPrefix(rest, "/")
	if dirs {
		n, rest = n-2, rest[1:]
	}
	switch {
	case n >= 2:
		out.WriteString(anyPath)
	case n == 1:
		out.WriteString(`[^/]*`)
	}
	if dirs {
		out.WriteString(`(` + anyPath + `/)?`)
	}
	return rest
}

// anyChar is one character of a name. Whether a character beyond ASCII is one
// or several is not known of the kernel's engine: a denial takes any number.
func anyChar(deny bool) string {
	if deny {
		return `([ -.0-~]|[^ -~]+)`
	}
	return `[^/]`
}

// setRegex writes a set without the characters that could end or turn it: they
// stand beside it.
func setRegex(pairs []rune) (string, error) {
	var members [utf8.RuneSelf]bool
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i+1] >= utf8.RuneSelf {
			return "", fmt.Errorf("only ASCII can be in a set: write the names out")
		}
		for c := pairs[i]; c <= pairs[i+1]; c++ {
			members[c] = c != '/'
		}
	}
	var class strings.Builder
	var choices []string
	for c, in := range members {
		switch {
		case !in:
		case c == ' ' || isWordByte(byte(c)):
			class.WriteByte(byte(c))
		default:
			choices = append(choices, escapeRegex(byte(c)))
		}
	}
	if class.Len() > 0 {
		choices = append(choices, `[`+class.String()+`]`)
	}
	if len(choices) == 0 {
		return "", fmt.Errorf("a set that no name can match")
	}
	return `(` + strings.Join(choices, `|`) + `)`, nil
}

func isWordByte(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '_'
}

// escapeRegex writes one ASCII character that means itself.
func escapeRegex(c byte) string {
	if strings.IndexByte(`.[]\^$*+?(){}|`, c) >= 0 {
		return `\` + string(c)
	}
	return string(c)
}

// anchor is the expression for exactly the names of a directory.
func anchor(dir string) string { return "^" + strings.Repeat("/"+anyName, len(components(dir))) }

// cover matches what the pattern matches with at least so many names, and
// everything below. For a static pattern there is only one depth.
func (p pattern) cover(least int) string {
	return p.match(least) + belowEnd
}

// match is cover without the end.
func (p pattern) match(least int) string {
	switch p.shape {
	case shapeStatic:
		return anchor(p.base) + joined(p.head)
	case shapeDeep:
		more := max(0, least-p.depth())
		return anchor(p.base) + joined(p.head) + strings.Repeat("/"+anyName, more) + `(/` + anyName + `)*` + joined(p.tail)
	}
	return anchor(p.base) + `/` + p.odd
}

func joined(names []string) string {
	var b strings.Builder
	for _, n := range names {
		b.WriteString("/" + n)
	}
	return b.String()
}

// parents are expressions for the directories between the base and what the
// pattern matches, as far as they have names.
func (p pattern) parents() []string {
	var out []string
	for i := 1; i <= len(p.head); i++ {
		if i == len(p.head) && p.shape == shapeStatic {
			break // the match itself
		}
		out = append(out, anchor(p.base)+joined(p.head[:i])+`$`)
	}
	for i := 1; i < len(p.tail); i++ {
		out = append(out, anchor(p.base)+joined(p.head)+`(/`+anyName+`)*`+joined(p.tail[:i])+`$`)
	}
	return out
}

// moved is a deep pattern as it has to match below another directory, into
// which a directory with matches inside could be moved.
func (p pattern) moved(base string) pattern {
	return pattern{shape: shapeDeep, base: base, tail: p.tail, names: len(p.tail)}
}

// belowOf matches what d matches strictly below a match of a, both ending in
// one name after **/.
func belowOf(d, a pattern) string {
	return `^(/` + anyName + `)*` + joined(a.tail) + `(/` + anyName + `)*` + joined(d.tail) + belowEnd
}
