package seatbelt

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
)

// A reader of profiles that knows the forms a profile of ours may have, and
// two ways to evaluate one.

// node is a list, a string or a symbol.
type node struct {
	list   []node
	text   string
	isList bool
	isText bool
}

func (n node) head() string {
	if len(n.list) > 0 && !n.list[0].isList && !n.list[0].isText {
		return n.list[0].text
	}
	return ""
}

type sbplReader struct {
	s   string
	pos int
}

func (r *sbplReader) space() {
	for r.pos < len(r.s) && strings.IndexByte(" \n", r.s[r.pos]) >= 0 {
		r.pos++
	}
}

func (r *sbplReader) node() (node, error) {
	r.space()
	if r.pos == len(r.s) {
		return node{}, errors.New("unexpected end")
	}
	switch c := r.s[r.pos]; {
	case c == '(':
		r.pos++
		n := node{isList: true}
		for r.space(); r.pos < len(r.s) && r.s[r.pos] != ')'; r.space() {
			inner, err := r.node()
			if err != nil {
				return n, err
			}
			n.list = append(n.list, inner)
		}
		if r.pos == len(r.s) {
			return n, errors.New("list without an end")
		}
		r.pos++
		return n, nil
	case c == '"':
		return r.text()
	}
	start := r.pos
	for r.pos < len(r.s) && (strings.IndexByte("-*_", r.s[r.pos]) >= 0 || isWordByte(r.s[r.pos])) {
		r.pos++
	}
	if r.pos == start {
		return node{}, fmt.Errorf("byte %d: %q", r.pos, r.s[r.pos])
	}
	return node{text: r.s[start:r.pos]}, nil
}

func (r *sbplReader) text() (node, error) {
	var text strings.Builder
	start := r.pos
	for r.pos++; r.pos < len(r.s); r.pos++ {
		c := r.s[r.pos]
		switch {
		case c == '"':
			r.pos++
			if r.pos-start > 1000 {
				return node{}, errors.New("string too long")
			}
			return node{text: text.String(), isText: true}, nil
		case c == '\\':
			r.pos++
			if r.pos == len(r.s) || r.s[r.pos] != '"' && r.s[r.pos] != '\\' {
				return node{}, fmt.Errorf("byte %d: bad escape", r.pos)
			}
			c = r.s[r.pos]
		case c < ' ' || c > '~':
			return node{}, fmt.Errorf("byte %d: %#x in a string", r.pos, c)
		}
		text.WriteByte(c)
	}
	return node{}, errors.New("string without an end")
}

// sbplRule is an allow or deny.
type sbplRule struct {
	deny    bool
	ops     []string
	filters []node
	message string
}

// readProfile takes a version and rules, and nothing else.
func readProfile(s string) ([]sbplRule, error) {
	r := &sbplReader{s: s}
	first, err := r.node()
	if err != nil || first.head() != "version" || len(first.list) != 2 || first.list[1].text != "1" {
		return nil, fmt.Errorf("no version: %v", err)
	}
	var rules []sbplRule
	for r.space(); r.pos < len(r.s); r.space() {
		n, err := r.node()
		if err != nil {
			return nil, err
		}
		rule, err := readRule(n)
		if err != nil {
			return nil, err
		}
		rules = append(rules, rule)
	}
	return rules, nil
}

func readRule(n node) (sbplRule, error) {
	rule := sbplRule{deny: n.head() == "deny"}
	if !rule.deny && n.head() != "allow" {
		return rule, fmt.Errorf("a form that is no rule: %q", n.head())
	}
	for _, part := range n.list[1:] {
		switch {
		case !part.isList && !part.isText && len(rule.filters) == 0:
			rule.ops = append(rule.ops, part.text)
		case part.head() == "with":
			if len(part.list) != 3 || part.list[1].text != "message" || !part.list[2].isText || rule.message != "" {
				return rule, errors.New("a modifier other than one message")
			}
			rule.message = part.list[2].text
		default:
			if err := checkFilter(part); err != nil {
				return rule, err
			}
			rule.filters = append(rule.filters, part)
		}
	}
	if len(rule.ops) == 0 {
		return rule, errors.New("a rule without an operation")
	}
	return rule, nil
}

// oneText are the filters that take one string.
var oneText = []string{"literal", "subpath", "regex", "global-name", "global-name-prefix", "sysctl-name", "sysctl-name-prefix",
	"iokit-registry-entry-class"}

// oneWord are those that take one symbol.
var oneWord = []string{"vnode-type", "target", "socket-domain", "socket-protocol"}

func checkFilter(n node) error {
	args := []node(nil)
	if len(n.list) > 0 {
		args = n.list[1:]
	}
	switch h := n.head(); {
	case h == "require-all" || h == "require-any" || h == "require-not" && len(args) == 1:
		if len(args) == 0 {
			return fmt.Errorf("an empty %s", h)
		}
		for _, a := range args {
			if err := checkFilter(a); err != nil {
				return err
			}
		}
		return nil
	case (h == "literal" || h == "subpath") && len(args) == 1 && args[0].head() == "param":
		if p := args[0].list; len(p) != 2 || !p[1].isText {
			return errors.New("a param without a name")
		}
		return nil
	case slices.Contains(oneText, h) && len(args) == 1 && args[0].isText:
		if h == "regex" && (!strings.HasPrefix(args[0].text, "^") || !strings.HasSuffix(args[0].text, "$")) {
			return fmt.Errorf("an expression without anchors: %s", args[0].text)
		}
		return nil
	case slices.Contains(oneWord, h) && len(args) == 1 && !args[0].isText && !args[0].isList:
		return nil
	case h == "remote" || h == "local":
		if len(args) != 2 || args[0].text != "ip" || !args[1].isText {
			return fmt.Errorf("a malformed %s", h)
		}
		return nil
	}
	return fmt.Errorf("an unknown filter %q", n.head())
}

// subject is what an operation is on.
type subject struct {
	path   string
	dir    bool
	remote string // "localhost:443", "example.com:443"
	local  string
}

// machine evaluates a profile.
type machine struct {
	rules  []sbplRule
	params map[string]string
	bytes  bool // expressions see bytes, not characters
}

func newMachine(p *Profile, bytes bool) (*machine, error) {
	rules, err := readProfile(p.Text)
	if err != nil {
		return nil, err
	}
	m := &machine{rules: rules, params: map[string]string{}, bytes: bytes}
	for _, v := range p.Params {
		m.params[v.Name] = v.Value
	}
	return m, nil
}

// chain is an operation, and the families it belongs to, from the leaf up.
func chain(op string) []string {
	for _, family := range []string{"file-read", "file-write"} {
		if strings.HasPrefix(op, family+"-") {
			return []string{op, family + "*", "file*", "default"}
		}
	}
	for _, family := range []string{"network", "process-exec", "process-info"} {
		if strings.HasPrefix(op, family) {
			return []string{op, family + "*", "default"}
		}
	}
	return []string{op, "default"}
}

// matches says of every rule whether its filters match.
func (m *machine) matches(s subject) []bool {
	out := make([]bool, len(m.rules))
	for i, r := range m.rules {
		out[i] = len(r.filters) == 0
		for _, f := range r.filters {
			if m.filter(f, s) {
				out[i] = true
				break
			}
		}
	}
	return out
}

// expression is a compiled one. Most are in every profile, and short paths come
// often: what was said of those is kept.
type expression struct {
	*regexp.Regexp
	mu   sync.Mutex
	said map[string]bool
}

const maxSaid = 2000

var compiled sync.Map // text → *expression

func (e *expression) matches(path string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	yes, known := e.said[path]
	if !known {
		if yes = e.MatchString(path); len(e.said) < maxSaid {
			e.said[path] = yes
		}
	}
	return yes
}

func (m *machine) regex(re, path string) bool {
	c, ok := compiled.Load(re)
	if !ok {
		c, _ = compiled.LoadOrStore(re, &expression{Regexp: regexp.MustCompile(re), said: map[string]bool{}})
	}
	if m.bytes && !isASCII(path) {
		runes := make([]rune, len(path))
		for i := range len(path) {
			runes[i] = rune(path[i])
		}
		path = string(runes)
	}
	return c.(*expression).matches(path)
}

func (m *machine) value(n node) string {
	if !n.isList {
		return n.text
	}
	v, ok := m.params[n.list[1].text]
	if !ok {
		panic("no parameter " + n.list[1].text)
	}
	return v
}

func (m *machine) filter(n node, s subject) bool {
	args := n.list[1:]
	switch n.head() {
	case "require-all":
		return !slices.ContainsFunc(args, func(a node) bool { return !m.filter(a, s) })
	case "require-any":
		return slices.ContainsFunc(args, func(a node) bool { return m.filter(a, s) })
	case "require-not":
		return !m.filter(args[0], s)
	case "literal":
		return s.path != "" && s.path == m.value(args[0])
	case "subpath":
		return s.path != "" && within(s.path, m.value(args[0]))
	case "regex":
		return s.path != "" && m.regex(args[0].text, s.path)
	case "vnode-type":
		return s.path != "" && s.dir == (args[0].text == "DIRECTORY")
	case "remote":
		return endpointMatches(args[1].text, s.remote)
	case "local":
		return endpointMatches(args[1].text, s.local)
	}
	return false // of what these tests do not ask about
}

func endpointMatches(pattern, got string) bool {
	wantHost, wantPort, _ := strings.Cut(pattern, ":")
	host, port, ok := strings.Cut(got, ":")
	return ok && (wantHost == "*" || wantHost == host) && (wantPort == "*" || wantPort == port)
}

// modelH: from the leaf up, the last rule with a filter that names the level
// and matches; else a rule without a filter that names it; else further up.
func (m *machine) modelH(op string, match []bool) (allowed bool) {
	for _, level := range chain(op) {
		found, bare := -1, -1
		for i, r := range m.rules {
			if !match[i] || !slices.Contains(r.ops, level) {
				continue
			}
			if len(r.filters) > 0 {
				found = i
			} else {
				bare = i
			}
		}
		if found < 0 {
			found = bare
		}
		if found >= 0 {
			return !m.rules[found].deny
		}
	}
	return false
}

// flat: the last rule that matches and names the operation or a family of it.
func (m *machine) flat(op string, match []bool) (allowed bool) {
	levels := chain(op)
	for i := len(m.rules) - 1; i >= 0; i-- {
		if match[i] && slices.ContainsFunc(levels, func(l string) bool { return slices.Contains(m.rules[i].ops, l) }) {
			return !m.rules[i].deny
		}
	}
	return false
}
