package policy

import (
	"bytes"
	"strings"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"
)

// Lists of thousands of names are most of a large policy, and a YAML parser
// takes most of the time to load one. A run is a row of lines of a block list
// that hold one plain name each and could mean nothing else; the parser is given
// one line in its place, and the list gets its entries back when it is read.

// leastRun is how many lines are worth it; tests try fewer.
var leastRun = 64

const runMark = "sallyport.run"

// runs are the lines taken out, by the number of the first.
type runs map[int][]string

// condense takes runs out of a document. Every line keeps its number.
func condense(data []byte) ([]byte, runs) {
	if bytes.Count(data, []byte("\n")) < leastRun {
		return data, nil
	}
	lines := strings.Split(string(data), "\n")
	var found runs
	at := noList
	for i := 0; i < len(lines); {
		indent, ok := entryLine(lines[i])
		if !ok {
			if !ordinaryLine(lines[i]) {
				return data, nil
			}
			at = at.after(lines[i])
			i++
			continue
		}
		end := i + 1
		for end < len(lines) {
			if n, ok := entryLine(lines[end]); !ok || n != indent {
				break
			}
			end++
		}
		// The last line stays: what follows could go on with it.
		if last := end - 1; last-i >= leastRun && at.takes(indent) {
			if found == nil {
				found = runs{}
			}
			found[i+1] = take(lines, i, last, indent)
		}
		at = at.entry(indent)
		i = end
	}
	if found == nil {
		return data, nil
	}
	return []byte(strings.Join(lines, "\n")), found
}

func take(lines []string, from, to, indent int) []string {
	out := make([]string, 0, to-from)
	for i := from; i < to; i++ {
		out = append(out, lines[i][indent+2:])
		lines[i] = ""
	}
	lines[from] = strings.Repeat(" ", indent) + "- " + runMark
	return out
}

// place says which list may begin or go on behind a line.
type place struct {
	indent int  // of its dashes; -1: none
	begun  bool // that indent and no other
}

var noList = place{indent: -1}

func (p place) takes(indent int) bool {
	return p.indent >= 0 && (indent == p.indent || !p.begun && indent > p.indent)
}

func (p place) entry(indent int) place {
	if !p.takes(indent) {
		return noList
	}
	return place{indent, true}
}

// after is the place behind a line that is no entry of a run.
func (p place) after(line string) place {
	text := strings.TrimLeft(line, " ")
	indent := len(line) - len(text)
	switch {
	case text == "" || text[0] == '#':
		return p
	case strings.HasPrefix(text, "- "):
		return p.entry(indent)
	}
	key, ok := strings.CutSuffix(text, ":")
	if !ok || strings.Trim(key, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ") != "" || key == "" {
		return noList
	}
	return place{indent: indent}
}

// entryLine reports whether a line is one entry of a block list that is text to
// every reader of YAML: a name with a dot or a path.
func entryLine(line string) (indent int, ok bool) {
	text := strings.TrimLeft(line, " ")
	indent = len(line) - len(text)
	entry, ok := strings.CutPrefix(text, "- ")
	if !ok || entry == "" || len(entry) > 1000 {
		return indent, false
	}
	if c := entry[0]; !letter(c) && c != '/' && !strings.HasPrefix(entry, "~/") {
		return indent, false
	}
	if host, port, has := strings.Cut(entry, ":"); has { // HOST:PORT
		if port == "" || strings.Trim(port, "0123456789") != "" {
			return indent, false
		}
		entry = host
	}
	special := false // what no word of YAML's has
	for _, c := range []byte(entry) {
		switch {
		case letter(c), '0' <= c && c <= '9', c == '-', c == '_', c == '~', c == '+', c == '@':
		case c == '.', c == '/':
			special = true
		default:
			return indent, false
		}
	}
	return indent, special
}

func letter(c byte) bool { return 'a' <= c|0x20 && c|0x20 <= 'z' }

// ordinaryLine reports whether a line begins nothing that ends on another: no
// quotes or brackets left open, no text of several lines.
func ordinaryLine(line string) bool {
	if strings.ContainsAny(line, "|>&!%\t") {
		return false
	}
	if strings.HasPrefix(strings.TrimLeft(line, " "), "#") {
		return true
	}
	return strings.Count(line, `"`)%2 == 0 && strings.Count(line, "'")%2 == 0 && !strings.Contains(line, `\`) &&
		strings.Count(line, "[") == strings.Count(line, "]") && strings.Count(line, "{") == strings.Count(line, "}")
}

// entries counts those of a list.
func (w *walker) entries(list *ast.SequenceNode) int {
	n := len(list.Values)
	for _, v := range list.Values {
		if t := v.GetToken(); len(w.runs) > 0 && t != nil && t.Value == runMark {
			n += len(w.runs[t.Position.Line])
		}
	}
	return n
}

// expand gives the entries of a list that a node stands for: itself, or a run,
// whose nodes are there for the call alone.
func (w *walker) expand(n ast.Node, use func(ast.Node)) {
	s, isText := n.(*ast.StringNode)
	if !isText || s.Value != runMark || w.runs[s.GetToken().Position.Line] == nil {
		use(n)
		return
	}
	at := *s.GetToken().Position
	t := &token.Token{Type: token.StringType, Position: &at}
	node := ast.String(t)
	for _, entry := range w.runs[at.Line] {
		t.Value, t.Origin, node.Value = entry, entry, entry
		use(node)
		at.Line++
	}
}
