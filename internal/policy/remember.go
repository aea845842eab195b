package policy

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// Remembered is an entry that an answer of the user's has put into a file.
type Remembered struct {
	Entry string
	Allow bool
	Date  string // YYYY-MM-DD
	Line  int
}

// marker ends the line of an entry that was answered for.
const marker = "# asked "

var marked = regexp.MustCompile(`[ \t]# asked (\d{4}-\d{2}-\d{2})[ \t\r]*$`)

// listKey is the list that an answer goes into.
func listKey(allow bool) string {
	if allow {
		return "allowedDomains"
	}
	return "deniedDomains"
}

// Remember writes an entry into a file's list of allowed or denied hosts. The
// syntax tree says where; every other byte stays as it is, comments and order
// with it. What comes out is read again, and must say what the file said and the
// entry besides. An entry that is there already changes nothing.
func Remember(data []byte, entry string, allow bool, date string) ([]byte, error) {
	if _, err := ParseHostRule(entry, allow); err != nil {
		return nil, fmt.Errorf("remember %s: %w", clip(entry), err)
	}
	key := listKey(allow)
	if len(bytes.TrimSpace(data)) == 0 {
		return []byte("network:\n  " + key + ":\n    - " + quoteEntry(entry) + " " + marker + date + "\n"), nil
	}
	e, err := openEdit(data)
	if err != nil {
		return nil, err
	}
	list, _ := e.list(key)
	if slices.Contains(list, entry) {
		return data, nil
	}
	e.add(key, entry, date)
	return e.result(func(network map[string]any) { network[key] = append(anyList(network[key]), entry) })
}

// ForgetEntry takes an entry out again that Remember has written, from both
// lists. It says how many there were.
func ForgetEntry(data []byte, entry string) ([]byte, int, error) {
	n := 0
	for _, r := range RememberedEntries(data) {
		if r.Entry != entry {
			continue
		}
		// Lines shift with each that is taken out: look anew.
		out, err := forgetOne(data, r)
		if err != nil {
			return nil, 0, err
		}
		rest, more, err := ForgetEntry(out, entry)
		return rest, n + 1 + more, err
	}
	return data, n, nil
}

func forgetOne(data []byte, r Remembered) ([]byte, error) {
	e, err := openEdit(data)
	if err != nil {
		return nil, err
	}
	key := listKey(r.Allow)
	list, _ := e.list(key)
	at := r.Line - 1
	if len(list) == 1 {
		// A list with nothing in it has to say so.
		keyLine := e.keys[key].GetToken().Position.Line - 1
		text := strings.TrimRight(e.lines[keyLine], "\r")
		colon := strings.LastIndexByte(text, ':')
		if colon < 0 || keyLine == at {
			return nil, errLayout
		}
		e.lines[keyLine] = text[:colon+1] + " []" + e.lines[keyLine][len(text):]
	}
	e.lines = slices.Delete(e.lines, at, at+1)
	return e.result(func(network map[string]any) {
		left := []any{}
		taken := false
		for _, v := range anyList(network[key]) {
			if v == r.Entry && !taken {
				taken = true
				continue
			}
			left = append(left, v)
		}
		network[key] = left
	})
}

// RememberedEntries lists the entries that Remember has written, in order. A
// file that cannot be read has none.
func RememberedEntries(data []byte) []Remembered {
	e, err := openEdit(data)
	if err != nil {
		return nil
	}
	var out []Remembered
	for _, allow := range []bool{true, false} {
		seq := e.seqs[listKey(allow)]
		if seq == nil || seq.IsFlowStyle {
			continue
		}
		for _, v := range seq.Values {
			s, ok := v.(*ast.StringNode)
			if !ok {
				continue
			}
			line := s.GetToken().Position.Line
			if m := marked.FindStringSubmatch(e.lines[line-1]); m != nil {
				out = append(out, Remembered{Entry: s.Value, Allow: allow, Date: m[1], Line: line})
			}
		}
	}
	return out
}

var errLayout = errors.New("edit policy: the file is written in a way that is not understood well enough to change it; change it by hand")

// edit is a file that is being changed.
type edit struct {
	data    []byte
	lines   []string
	newline string
	top     ast.Node
	network ast.Node                     // nil: none
	keys    map[string]ast.Node          // of the network's lists
	seqs    map[string]*ast.SequenceNode // the lists
}

func openEdit(data []byte) (*edit, error) {
	if _, err := Parse(Source{Name: "policy", Data: data}); err != nil {
		return nil, fmt.Errorf("edit policy: it has problems: %w", err)
	}
	f, err := parser.ParseBytes(bytes.TrimPrefix(data, []byte("\ufeff")), 0)
	if err != nil || len(f.Docs) != 1 {
		return nil, errLayout
	}
	e := &edit{data: data, newline: "\n", top: f.Docs[0].Body, keys: map[string]ast.Node{}, seqs: map[string]*ast.SequenceNode{}}
	if bytes.Contains(data, []byte("\r\n")) {
		e.newline = "\r\n"
	}
	e.lines = strings.Split(string(data), "\n")
	for _, v := range mappingValues(e.top) {
		if keyText(v) == "network" {
			e.network = v.Value
			for _, w := range mappingValues(v.Value) {
				e.keys[keyText(w)] = w.Key
				if seq, ok := w.Value.(*ast.SequenceNode); ok {
					e.seqs[keyText(w)] = seq
				}
			}
		}
	}
	return e, nil
}

func mappingValues(n ast.Node) []*ast.MappingValueNode {
	switch v := n.(type) {
	case *ast.MappingNode:
		return v.Values
	case *ast.MappingValueNode:
		return []*ast.MappingValueNode{v}
	}
	return nil
}

func keyText(v *ast.MappingValueNode) string {
	if s, ok := v.Key.(*ast.StringNode); ok {
		return s.Value
	}
	return ""
}

func (e *edit) list(key string) (entries []string, ok bool) {
	seq := e.seqs[key]
	if seq == nil {
		return nil, false
	}
	for _, v := range seq.Values {
		if s, ok := v.(*ast.StringNode); ok {
			entries = append(entries, s.Value)
		}
	}
	return entries, true
}

// add puts the entry where it belongs. Where the layout defeats it, result finds
// out.
func (e *edit) add(key, entry, date string) {
	quoted := quoteEntry(entry)
	seq := e.seqs[key]
	switch {
	case seq != nil && !seq.IsFlowStyle && len(seq.Values) > 0:
		last := seq.Values[len(seq.Values)-1].GetToken().Position.Line
		e.insertLines(last, strings.Repeat(" ", seq.Start.Position.Column-1)+"- "+quoted+" "+marker+date)
	case seq != nil:
		e.insertFlow(seq.End, strconv.Quote(entry), len(seq.Values) > 0)
	case e.network != nil && !isFlow(e.network):
		first := mappingValues(e.network)[0].Key.GetToken().Position
		indent := strings.Repeat(" ", first.Column-1)
		e.insertLines(first.Line-1, indent+key+":", indent+"  - "+quoted+" "+marker+date)
	case e.network != nil:
		m := e.network.(*ast.MappingNode)
		e.insertFlow(m.End, strconv.Quote(key)+": ["+strconv.Quote(entry)+"]", len(m.Values) > 0)
	case isFlow(e.top):
		m := e.top.(*ast.MappingNode)
		e.insertFlow(m.End, `"network": {`+strconv.Quote(key)+": ["+strconv.Quote(entry)+"]}", len(m.Values) > 0)
	default:
		end := len(e.lines)
		for end > 0 && strings.TrimSpace(e.lines[end-1]) == "" {
			end--
		}
		if end == len(e.lines) { // the last line has no end
			e.lines[end-1] += strings.TrimSuffix(e.newline, "\n")
			e.lines = append(e.lines, "")
		}
		e.insertLines(end, "network:", "  "+key+":", "    - "+quoted+" "+marker+date)
	}
}

func isFlow(n ast.Node) bool {
	m, ok := n.(*ast.MappingNode)
	return ok && m.IsFlowStyle
}

// insertLines puts lines after the nth.
func (e *edit) insertLines(n int, lines ...string) {
	for i := range lines {
		lines[i] += strings.TrimSuffix(e.newline, "\n")
	}
	if n == len(e.lines) { // the last line has no end
		e.lines[n-1] += strings.TrimSuffix(e.newline, "\n")
		lines[len(lines)-1] = strings.TrimSuffix(lines[len(lines)-1], "\r")
	}
	e.lines = slices.Insert(e.lines, min(n, len(e.lines)), lines...)
}

// insertFlow puts an item before the bracket that ends a list or mapping, on a
// line of its own if the last one is.
func (e *edit) insertFlow(end *token.Token, item string, more bool) {
	line := end.Position.Line - 1
	column := byteColumn(e.lines[line], end.Position.Column)
	before := strings.Join(e.lines[:line], "\n")
	if line > 0 {
		before += "\n"
	}
	before += e.lines[line][:column]
	text := strings.TrimRight(before, " \t\r\n")
	space := before[len(text):]
	sep := ""
	if more && !strings.HasSuffix(text, ",") {
		sep = ","
	}
	if more && strings.Contains(space, "\n") {
		lastLine := text[strings.LastIndexByte(text, '\n')+1:]
		sep += e.newline + lastLine[:len(lastLine)-len(strings.TrimLeft(lastLine, " \t"))]
	} else if more {
		sep += " "
	}
	all := text + sep + item + space + e.lines[line][column:] + "\n" + strings.Join(e.lines[line+1:], "\n")
	if line == len(e.lines)-1 {
		all = strings.TrimSuffix(all, "\n")
	}
	e.lines = strings.Split(all, "\n")
}

// byteColumn turns a column, which counts characters from 1, into an offset.
func byteColumn(line string, column int) int {
	at := 0
	for range column - 1 {
		_, n := utf8.DecodeRuneInString(line[at:])
		at += n
	}
	return at
}

// result gives the changed file if it says what it should.
func (e *edit) result(change func(network map[string]any)) ([]byte, error) {
	out := []byte(strings.Join(e.lines, "\n"))
	want, err := generic(e.data)
	if err != nil {
		return nil, errLayout
	}
	network, ok := want["network"].(map[string]any)
	if !ok {
		network = map[string]any{}
		want["network"] = network
	}
	change(network)
	got, err := generic(out)
	if err != nil || !reflect.DeepEqual(got, want) {
		return nil, errLayout
	}
	if _, err := Parse(Source{Name: "policy", Data: out}); err != nil {
		return nil, errLayout
	}
	return out, nil
}

func generic(data []byte) (map[string]any, error) {
	var v map[string]any
	err := yaml.Unmarshal(bytes.TrimPrefix(data, []byte("\ufeff")), &v)
	return v, err
}

func anyList(v any) []any {
	l, _ := v.([]any)
	return slices.Clone(l)
}

// quoteEntry writes an entry so that YAML reads it as text: a wildcard would be
// an alias, an address in brackets a list.
func quoteEntry(entry string) string {
	if c := entry[0]; c >= 'a' && c <= 'z' && !slices.Contains([]string{"true", "false", "null", "yes", "no", "on", "off"}, entry) {
		return entry
	}
	return strconv.Quote(entry)
}
