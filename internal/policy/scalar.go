package policy

import (
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/goccy/go-yaml/ast"
)

// anyText takes any text that is not empty.
func anyText(w *walker, n ast.Node) { w.text(n) }

// checked takes text that a check accepts.
func checked(check func(string) error) shape {
	return func(w *walker, n ast.Node) {
		if s, ok := w.text(n); ok {
			if err := check(s); err != nil {
				w.fail(n, hintOf(err), "%s: %v", w.key(), err)
			}
		}
	}
}

// matching takes text of a form.
func matching(form *lazyRegexp, want string) shape {
	return matchingText(form, want, func(*File, string) {})
}

// matchingText is matching that hands the text on.
func matchingText(form *lazyRegexp, want string, set func(*File, string)) shape {
	return func(w *walker, n ast.Node) {
		if w.sketched(sketch{"type": "string", "pattern": form.text}) {
			return
		}
		s, ok := w.text(n)
		switch {
		case ok && form.MatchString(s):
			set(w.file, s)
		case ok:
			w.fail(n, "", "%s wants %s, not %s", w.key(), want, clip(s))
		}
	}
}

// oneOf takes one of a few words.
func oneOf(words ...string) shape { return choice(func(*File, string, Rule) {}, words...) }

// choice is oneOf that hands the word on.
func choice(set func(*File, string, Rule), words ...string) shape {
	return func(w *walker, n ast.Node) {
		if w.sketched(sketch{"enum": words}) {
			return
		}
		s, ok := w.text(n)
		if !ok {
			return
		}
		if !slices.Contains(words, s) {
			hint := "one of " + strings.Join(words, ", ")
			if near := nearest(s, words); near != "" {
				hint = "did you mean " + near + "?"
			}
			w.fail(n, hint, "%s cannot be %s", w.key(), clip(s))
			return
		}
		set(w.file, s, w.rule(n))
	}
}

// flag takes true or false and hands it on.
func flag(set func(*File, bool, Rule)) shape {
	return func(w *walker, n ast.Node) {
		if w.sketched(sketch{"type": "boolean"}) || !w.plain(n) {
			return
		}
		b, ok := n.(*ast.BoolNode)
		if !ok {
			w.wrong(n, "true or false")
			return
		}
		if set != nil {
			set(w.file, b.Value, w.rule(n))
		}
		if !b.Value {
			w.file.off[w.key()] = true
		}
	}
}

// boolean takes true or false; only its being there and being true matters.
func boolean(w *walker, n ast.Node) { flag(nil)(w, n) }

// integer takes a whole number in a range and hands it on.
func integer(least, most int, set func(*File, int, Rule)) shape {
	return func(w *walker, n ast.Node) {
		if w.sketched(sketch{"type": "integer", "minimum": least, "maximum": most}) || !w.plain(n) {
			return
		}
		v, ok := n.(*ast.IntegerNode)
		if !ok {
			w.wrong(n, "a whole number")
			return
		}
		i, err := strconv.Atoi(v.GetToken().Value)
		if err != nil || i < least || i > most {
			w.fail(n, "", "%s must be from %d to %d", w.key(), least, most)
			return
		}
		if set != nil {
			set(w.file, i, w.rule(n))
		}
	}
}

// either takes a scalar as a number or as text, each by its own shape.
func either(num, text shape) shape {
	return func(w *walker, n ast.Node) {
		if w.eitherSketch(num, text) {
			return
		}
		if _, ok := n.(*ast.IntegerNode); ok {
			num(w, n)
			return
		}
		text(w, n)
	}
}

// duration takes "90s", "5m", "1h30m".
func duration(w *walker, n ast.Node) {
	s, ok := w.text(n)
	if !ok {
		return
	}
	if d, err := time.ParseDuration(s); err != nil || d <= 0 {
		w.fail(n, "write it as 90s, 5m or 1h30m", "%s: %s is not a length of time", w.key(), clip(s))
	}
}

// lazyRegexp is compiled when it is first used: a run starts without most of
// them, three times over.
type lazyRegexp struct {
	text    string
	compile func() *regexp.Regexp
}

func pattern(text string) *lazyRegexp {
	return &lazyRegexp{text, sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(text) })}
}

func (l *lazyRegexp) MatchString(s string) bool { return l.compile().MatchString(s) }

var (
	envName    = pattern(`^[A-Za-z_][A-Za-z0-9_]*$`)
	envPattern = pattern(`^[A-Za-z_][A-Za-z0-9_]*\*?$`)
	machName   = pattern(`^[!-)+-~]+\*?$`)
	windowsID  = pattern(`^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$`)
	absolute   = pattern(`^/`)
)
