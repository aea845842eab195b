package seatbelt

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Limits of the profile compiler, measured by others on macOS: a string
// literal of about 1025 bytes is too long for it, and 65535 bytes compiled, or
// some 1264 paths, too much.
const (
	maxLiteral = 900
	maxFilters = 1000
)

// Param is a path that a profile names without holding it: no path can end a
// string of the profile, and its text is plain ASCII.
type Param struct {
	Name, Value string
}

// writer writes a profile. It keeps the first error.
type writer struct {
	tag     string
	text    strings.Builder
	params  []Param
	names   map[string]string // of parameters, by value
	filters int
	err     error
}

func newWriter(tag string) *writer { return &writer{tag: tag, names: map[string]string{}} }

func (w *writer) fail(err error) {
	if w.err == nil {
		w.err = err
	}
}

func (w *writer) line(s string) { w.text.WriteString(s + "\n") }

// allow and deny write a rule; filters are joined by "or". Without any, the
// rule covers everything, so an empty list must not come to that by accident:
// they write nothing then.
func (w *writer) allow(ops string, filters ...string) {
	if len(filters) > 0 {
		w.rule("allow "+ops, filters, "")
	}
}

func (w *writer) deny(ops string, filters ...string) {
	if len(filters) > 0 {
		w.rule("deny "+ops, filters, w.message())
	}
}

func (w *writer) allowAll(ops string) { w.line("(allow " + ops + ")") }

func (w *writer) message() string { return `(with message "` + w.tag + `")` }

func (w *writer) rule(head string, filters []string, message string) {
	w.text.WriteString("(" + head)
	for _, f := range filters {
		w.text.WriteString("\n  " + f)
	}
	if message != "" {
		w.text.WriteString("\n  " + message)
	}
	w.text.WriteString(")\n")
}

// param gives the expression for a path.
func (w *writer) param(path string) string {
	name, ok := w.names[path]
	if !ok {
		if err := checkParam(path); err != nil {
			w.fail(err)
		}
		name = "P_" + strconv.Itoa(len(w.params))
		w.names[path] = name
		w.params = append(w.params, Param{name, path})
	}
	return `(param "` + name + `")`
}

// checkParam takes an absolute path in its one spelling.
func checkParam(p string) error {
	if !strings.HasPrefix(p, "/") || !utf8.ValidString(p) {
		return fmt.Errorf("the path %q cannot be in a profile", p)
	}
	for _, c := range []byte(p) {
		if c < ' ' || c == 0x7f {
			return fmt.Errorf("the path %q has a control character: it cannot be in a profile", p)
		}
	}
	for name := range strings.SplitSeq(p[1:], "/") {
		if name == ".." || name == "." || name == "" && p != "/" {
			return fmt.Errorf("the path %q is not in its one spelling", p)
		}
	}
	return nil
}

func (w *writer) literal(path string) string {
	w.filters++
	return "(literal " + w.param(path) + ")"
}

func (w *writer) subpath(path string) string {
	w.filters++
	return "(subpath " + w.param(path) + ")"
}

// below gives a filter for what an anchored expression matches in a directory.
func (w *writer) below(dir, regex string) string {
	w.filters++
	re := "(regex " + w.quote(regex) + ")"
	if dir == "/" {
		return re
	}
	return allOf(w.subpath(dir), re)
}

func allOf(filters ...string) string { return "(require-all " + strings.Join(filters, " ") + ")" }

func anyOf(filters ...string) string {
	if len(filters) == 1 {
		return filters[0]
	}
	return "(require-any " + strings.Join(filters, " ") + ")"
}

// quote writes a string of the profile: of ASCII, with the quote and the
// backslash as the only characters that need one.
func (w *writer) quote(s string) string {
	if len(s) > maxLiteral {
		w.fail(fmt.Errorf("an expression of %d bytes is too long for a profile (%d): write a shorter pattern", len(s), maxLiteral))
	}
	for _, c := range []byte(s) {
		if c < ' ' || c > '~' {
			w.fail(fmt.Errorf("%q cannot be in the text of a profile", s))
			break
		}
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}

// finish gives the text, or what was wrong with it.
func (w *writer) finish() (string, error) {
	if w.err == nil && w.filters > maxFilters {
		w.err = fmt.Errorf("%d path filters are more than a profile can hold (%d): name fewer and larger paths", w.filters, maxFilters)
	}
	return w.text.String(), w.err
}
