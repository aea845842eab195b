package policy

import (
	"fmt"
	"sort"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"
)

// walker goes through a document once and collects every problem. It reads
// the syntax tree instead of decoding into structs, because a decoder resolves
// aliases, tags and merge keys, takes null for absence and stops at the first
// error.
type walker struct {
	file  *File
	lines []string
	path  []string // keys from the root to here
	errs  Errors
	runs  runs // lines that stand for many
	// sketch is filled in where a schema is made, and nothing read.
	sketch sketch
}

// shape checks one value and takes it over.
type shape func(w *walker, n ast.Node)

func (w *walker) at(pos *token.Position, hint, format string, args ...any) {
	e := &Error{File: w.file.name, Message: fmt.Sprintf(format, args...), Hint: hint}
	if pos != nil {
		e.Line, e.Col = pos.Line, pos.Column
		if pos.Line >= 1 && pos.Line <= len(w.lines) {
			e.SourceLine = w.lines[pos.Line-1]
		}
	}
	w.errs = append(w.errs, e)
}

func (w *walker) fail(n ast.Node, hint, format string, args ...any) {
	w.at(position(n), hint, format, args...)
}

func position(n ast.Node) *token.Position {
	switch v := n.(type) {
	case *ast.MappingValueNode:
		return position(v.Key)
	case *ast.MappingNode:
		if !v.IsFlowStyle && len(v.Values) > 0 {
			return position(v.Values[0])
		}
	}
	if n == nil || n.GetToken() == nil {
		return nil
	}
	return n.GetToken().Position
}

func (w *walker) rule(n ast.Node) Rule {
	r := Rule{File: w.file.name, Line: 1}
	if pos := position(n); pos != nil {
		r.Line = pos.Line
	}
	return r
}

func (w *walker) key() string { return strings.Join(w.path, ".") }

// plain refuses what YAML can do that a policy must not: the same text has to
// mean the same to every reader.
func (w *walker) plain(n ast.Node) bool {
	switch v := n.(type) {
	case *ast.NullNode:
		hint := "leave the key out, or give it a value"
		if v.GetToken() != nil && v.GetToken().Value == "~" {
			hint = `a bare ~ means null; for the home directory write "~"`
		}
		w.fail(n, hint, "null where a value is expected")
	case *ast.AliasNode:
		w.fail(n, `a * at the start makes it a YAML alias; quote it: "*.example.com"`,
			"YAML aliases are not allowed")
	case *ast.AnchorNode:
		w.fail(n, "write the value out where it is needed", "YAML anchors are not allowed")
	case *ast.TagNode:
		w.fail(n, "a ! at the start makes it a YAML tag; quote it if it is meant as text",
			"YAML tags are not allowed")
	case nil:
		w.at(nil, "", "no value")
	default:
		return true
	}
	return false
}

func kindName(n ast.Node) string {
	switch n.(type) {
	case *ast.StringNode, *ast.LiteralNode:
		return "text"
	case *ast.IntegerNode, *ast.FloatNode, *ast.InfinityNode, *ast.NanNode:
		return "a number"
	case *ast.BoolNode:
		return "true or false"
	case *ast.SequenceNode:
		return "a list"
	case *ast.MappingNode, *ast.MappingValueNode:
		return "a mapping"
	}
	return "something else"
}

func (w *walker) wrong(n ast.Node, want string) {
	hint := ""
	if _, isText := n.(*ast.StringNode); isText && want == "a list" {
		hint = "write it in brackets, or as lines that start with a dash"
	}
	if isScalar(n) && want == "text" {
		hint = "quote it"
	}
	w.fail(n, hint, "%s wants %s, not %s", w.key(), want, kindName(n))
}

func isScalar(n ast.Node) bool {
	switch n.(type) {
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.InfinityNode, *ast.NanNode:
		return true
	}
	return false
}

// text gives a string that is not empty.
func (w *walker) text(n ast.Node) (string, bool) {
	if w.sketched(textSketch()) {
		return "", false
	}
	if !w.plain(n) {
		return "", false
	}
	s := ""
	switch v := n.(type) {
	case *ast.StringNode:
		s = v.Value
	case *ast.LiteralNode:
		s = v.Value.Value
	default:
		w.wrong(n, "text")
		return "", false
	}
	if strings.TrimSpace(s) == "" {
		w.fail(n, "take the entry out, or fill it in", "empty entry")
		return "", false
	}
	return s, true
}

// pairs gives a mapping's values in order, each key checked and said once.
func (w *walker) pairs(n ast.Node, use func(key string, kn, v ast.Node)) bool {
	if !w.plain(n) {
		return false
	}
	var values []*ast.MappingValueNode
	switch v := n.(type) {
	case *ast.MappingNode:
		values = v.Values
	case *ast.MappingValueNode:
		values = []*ast.MappingValueNode{v}
	default:
		w.wrong(n, "a mapping")
		return false
	}
	first := map[string]int{}
	for _, v := range values {
		key, ok := w.mapKey(v.Key)
		if !ok {
			continue
		}
		if line, dup := first[key]; dup {
			w.fail(v.Key, "", "duplicate key %s: already on line %d", clip(key), line)
			continue
		}
		first[key] = w.rule(v.Key).Line
		use(key, v.Key, v.Value)
	}
	return true
}

func (w *walker) mapKey(n ast.MapKeyNode) (string, bool) {
	switch k := n.(type) {
	case *ast.StringNode:
		return k.Value, true
	case *ast.MergeKeyNode:
		w.fail(n, "write the keys out where they are needed", "YAML merge keys are not allowed")
	default:
		w.fail(n, "quote it if it is meant as text", "a key must be text")
	}
	return "", false
}

// object takes a mapping with known keys.
func object(fields map[string]shape) shape {
	known := make([]string, 0, len(fields))
	for k := range fields {
		known = append(known, k)
	}
	sort.Strings(known)
	return func(w *walker, n ast.Node) {
		if w.sketchObject(fields) {
			return
		}
		w.pairs(n, func(key string, kn, v ast.Node) {
			field, ok := fields[key]
			if !ok {
				w.unknownKey(key, kn, known)
				return
			}
			w.path = append(w.path, key)
			w.take(field, kn, v)
			w.path = w.path[:len(w.path)-1]
		})
	}
}

func (w *walker) unknownKey(key string, kn ast.Node, known []string) {
	where := "at the top"
	if len(w.path) > 0 {
		where = "in " + w.key()
	}
	hint := ""
	if near := nearest(key, known); near != "" {
		hint = fmt.Sprintf("did you mean %s?", near)
	} else if home := homesOf(key); home != "" {
		hint = fmt.Sprintf("it belongs in %s", home)
	}
	w.fail(kn, hint, "unknown key %s %s", clip(key), where)
}

// list takes a sequence, each element by one shape.
func list(element shape) shape {
	return func(w *walker, n ast.Node) {
		if w.sketch != nil && w.sketched(sketch{"type": "array", "items": w.schemaOf(element)}) {
			return
		}
		if !w.plain(n) {
			return
		}
		seq, ok := n.(*ast.SequenceNode)
		if !ok {
			w.wrong(n, "a list")
			return
		}
		if len(seq.Values) == 0 {
			w.file.off[w.key()] = true
		}
		for _, v := range seq.Values {
			w.expand(unsplit(v), func(n ast.Node) { element(w, n) })
		}
	}
}

// unsplit puts together again what goccy/go-yaml 1.19.2 takes for a mapping:
// {k: [a.b:80]}. YAML has a mapping only where a space follows the colon, or
// the key is quoted (YAML 1.2.2, 7.3.3).
func unsplit(n ast.Node) ast.Node {
	m, ok := n.(*ast.MappingNode)
	if !ok || len(m.Values) != 1 || m.GetToken().Type != token.MappingValueType {
		return n
	}
	key, isText := m.Values[0].Key.(*ast.StringNode)
	if !isText || !isPlain(m.Values[0].Value) {
		return n
	}
	from, colon, value := key.GetToken(), m.GetToken().Position, m.Values[0].Value.GetToken()
	end := from.Position.Column + utf8.RuneCountInString(key.Value)
	if from.Type != token.StringType || from.Position.Line != colon.Line || end != colon.Column ||
		value.Position.Line != colon.Line || value.Position.Column != colon.Column+1 {
		return n
	}
	joined := *from
	joined.Value = key.Value + ":" + value.Value
	return ast.String(&joined)
}

func isPlain(n ast.Node) bool {
	if s, ok := n.(*ast.StringNode); ok {
		return s.GetToken().Type == token.StringType
	}
	return isScalar(n)
}

// record takes a mapping whose keys are free.
func record(use func(w *walker, key string, kn, v ast.Node)) shape {
	return func(w *walker, n ast.Node) {
		if w.sketchRecord(use) {
			return
		}
		w.pairs(n, func(key string, kn, v ast.Node) {
			if strings.TrimSpace(key) == "" {
				w.fail(kn, "", "empty key in %s", w.key())
				return
			}
			use(w, key, kn, v)
		})
	}
}
