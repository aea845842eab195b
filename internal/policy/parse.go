package policy

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// Source is one policy file's bytes.
type Source struct {
	Name string // as shown in rules and errors
	Data []byte
	Dir  string // base for relative paths; "" = Env.Cwd
	Path string // where the bytes really are, if that is not Name: a link's target
	// Layer says what the file may do.
	Layer Layer
}

// Limits of a policy file. The parser recurses at every opened level, and a
// Go stack that overflows cannot be recovered from.
// Its time grows with the square of the keys.
const (
	MaxBytes = 1 << 20
	maxDepth = 500
	maxKeys  = 20000
)

// Parse reads one policy file, strictly. The error is an Errors that lists
// every problem.
func Parse(src Source) (*File, error) {
	data := bytes.TrimPrefix(src.Data, []byte("\xef\xbb\xbf"))
	// goccy/go-yaml 1.19.2 loses count of the lines after some "\r\n".
	data = bytes.ReplaceAll(data, []byte("\r\n"), []byte("\n"))
	f := newFile(src.Name)
	f.paths, f.dir, f.data, f.layer = []string{src.Name}, src.Dir, src.Data, src.Layer
	if src.Path != "" {
		f.paths = append(f.paths, src.Path)
	}
	w := &walker{file: f, lines: strings.Split(string(data), "\n")}
	data, w.runs = condense(data)
	if body := w.document(data); body != nil {
		keys().root(w, body)
	}
	if err := w.errs.orNil(); err != nil {
		return nil, err
	}
	return f, nil
}

// document gives the one document's body, or nil with problems noted.
func (w *walker) document(data []byte) ast.Node {
	if err := checkBytes(data); err != nil {
		w.at(nil, "", "%v", err)
		return nil
	}
	tokens, err := tokenize(data)
	if err != nil {
		w.at(nil, "", "%v", err)
		return nil
	}
	if !w.oneDocument(tokens) {
		return nil
	}
	tree, err := parseTokens(tokens)
	if err != nil {
		w.syntax(err)
		return nil
	}
	for _, doc := range tree.Docs {
		if doc.Body != nil && doc.Body.Type() != ast.CommentType {
			return doc.Body
		}
	}
	w.at(nil, "a policy that allows nothing is written {}", "empty policy file")
	return nil
}

// oneDocument looks at the tokens, because goccy/go-yaml 1.19.2 drops what
// follows an empty document without a word.
func (w *walker) oneDocument(tokens token.Tokens) bool {
	begun, ended, keys := false, false, 0
	for _, t := range tokens {
		switch t.Type {
		case token.MappingValueType, token.MappingKeyType:
			if keys++; keys > maxKeys {
				w.at(t.Position, "", "more than %d keys", maxKeys)
				return false
			}
		case token.CommentType:
			continue
		case token.DirectiveType:
			w.at(t.Position, "take the line out", "YAML directives are not allowed")
			return false
		case token.DocumentEndType:
			ended = true
			continue
		}
		if ended || begun && t.Type == token.DocumentHeaderType {
			w.at(t.Position, "one policy is one document; give the others with --policy of their own",
				"a second document")
			return false
		}
		begun = true
	}
	return true
}

func checkBytes(data []byte) error {
	if len(data) > MaxBytes {
		return fmt.Errorf("larger than %d bytes", MaxBytes)
	}
	if !utf8.Valid(data) {
		return errors.New("not UTF-8 text")
	}
	depth, opened := 0, 0 // by brackets, and by "- - -", "? ? ?" or "!a !a !a"
	for _, c := range data {
		switch c {
		case '\r': // the end of a line to some readers of YAML
			return errors.New("carriage return without a line feed")
		case '\n':
			opened = 0
		case '-', '?', '!', '&':
			opened++
		case '[', '{':
			depth++
		case ']', '}':
			depth = max(0, depth-1)
		}
		if c < ' ' && c != '\n' && c != '\t' || c == 0x7f {
			return fmt.Errorf("control character %#02x", c)
		}
		if depth > maxDepth || opened > maxDepth {
			return fmt.Errorf("nested deeper than %d levels", maxDepth)
		}
	}
	return nil
}

// tokenize and parseTokens turn a panic of the parser into an error: the bytes
// may come from anyone.
func tokenize(data []byte) (tokens token.Tokens, err error) {
	defer recovered(&err)
	return lexer.Tokenize(string(data)), nil
}

func parseTokens(tokens token.Tokens) (tree *ast.File, err error) {
	defer recovered(&err)
	return parser.Parse(tokens, 0, parser.AllowDuplicateMapKey())
}

func recovered(err *error) {
	if r := recover(); r != nil {
		*err = fmt.Errorf("not YAML: %v", r)
	}
}

// syntax reports what the parser refused.
func (w *walker) syntax(err error) {
	var se *yaml.SyntaxError
	if !errors.As(err, &se) || se.Token == nil {
		w.at(nil, "", "%v", err)
		return
	}
	pos := se.Token.Position
	hint := ""
	if pos.Line >= 1 && pos.Line <= len(w.lines) {
		hint = syntaxHint(w.lines[pos.Line-1])
	}
	w.at(pos, hint, "%s", se.Message)
}

// syntaxHint guesses what the writer of a line ran into.
func syntaxHint(line string) string {
	item := strings.TrimLeft(line, " -\t")
	switch {
	case strings.HasPrefix(strings.TrimLeft(line, " "), "\t"):
		return "indent with spaces, not with tabs"
	case strings.HasPrefix(item, "*"), strings.Contains(line, "[*"), strings.Contains(line, ", *"):
		return `text that starts with * must be quoted: "*.example.com"`
	case strings.Contains(line, "]:"):
		return `text that starts with [ must be quoted: "[::1]:443"`
	case strings.HasPrefix(item, "@"), strings.HasPrefix(item, "`"), strings.HasPrefix(item, "%"):
		return "quote it"
	}
	return ""
}
