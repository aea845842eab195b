package plan

import (
	"strings"

	"github.com/sallyport/sallyport/internal/policy"
)

// Positions is a set of places in patterns, as many as the kernel's programs can
// follow at once. A pattern stands in one word.
type Positions [FileWords]uint64

// FileWords is how many words of positions there are.
const FileWords = 2

// FileWilds is how many different names with a wildcard there can be.
const FileWilds = 24

// FileFlags are what the tree of literal paths says of one of them.
type FileFlags uint32

const (
	FileFlagHide FileFlags = 1 << iota
	FileFlagShow
	FileFlagSeal
	FileFlagProtect
	FileFlagRoot
	FileFlagPrivate
	FileFlagHolds // something below is refused: not moved, nor removed
	FileFlagGlobs // something below may come to be refused: not moved
)

var literalFlags = map[FileKind]FileFlags{FileHide: FileFlagHide, FileShow: FileFlagShow, FileSeal: FileFlagSeal,
	FileProtect: FileFlagProtect, FileRoot: FileFlagRoot, FilePrivate: FileFlagPrivate}

// FileEdge leads from one directory of the tree to a name in it. The root is 0.
type FileEdge struct {
	From, To uint32
	Name     string
	Flags    FileFlags
	Start    Positions // patterns that begin below
}

// FileWord is a name that positions wait for.
type FileWord struct {
	Name string
	Fold bool
	Mask Positions
}

// FileWild is all names that begin and end in a certain way.
type FileWild struct {
	Before, After string
	Fold          bool
	Mask          Positions
}

// FileTable is rules in the form in which the kernel's programs follow them: a
// tree of literal paths, and patterns as positions, each of which waits for one
// component of a path. Positions that are passed activate the next.
type FileTable struct {
	Root  FileEdge // "/" itself
	Edges []FileEdge
	Words []FileWord
	Wilds []FileWild
	// Loop are positions that, once active, stay so: after "**/". Last ends a
	// pattern; Kinds says of what kind. Hold are those that a move must not pass
	// though they are not the last: of protected names, and of other patterns.
	Loop, Last, Hold, GlobHold Positions
	Reads                      Positions // of patterns that have a say in reading
	Kinds                      [fileKinds]Positions
	Bare                       bool
	// Left are the rules that have no such form.
	Left []FileRule
}

// component is one of a pattern.
type component struct {
	deep          bool // "**/" comes before
	wild          bool
	before, after string // without wild: the name is before
}

// components reads a pattern; false: it has something else than names with at
// most one "*", and "**" between slashes.
func components(pattern string) ([]component, bool) {
	var out []component
	deep := false
	for _, part := range splitGlob(pattern) {
		if part == "**" {
			deep = true
			continue
		}
		c, ok := oneComponent(part)
		if !ok {
			return nil, false
		}
		c.deep, deep = deep, false
		out = append(out, c)
	}
	return out, !deep && len(out) > 0
}

// splitGlob cuts a pattern at its slashes; none is inside a set.
func splitGlob(pattern string) []string { return strings.Split(strings.Trim(pattern, "/"), "/") }

func oneComponent(part string) (c component, ok bool) {
	text := &c.before
	for part != "" {
		switch part[0] {
		case '?':
			return c, false
		case '*':
			if c.wild {
				return c, false
			}
			c.wild, text = true, &c.after
			part = part[1:]
			continue
		case '[':
			if set, rest, isSet := policy.GlobSet(part); isSet {
				if len(set) != 2 || set[0] != set[1] {
					return c, false
				}
				*text += string(set[0])
				part = rest
				continue
			}
		}
		*text += part[:1]
		part = part[1:]
	}
	return c, true
}

// CompileFiles puts rules into the kernel's form. Those that have none are listed;
// if one of them would show what another hides, that one is left, too.
func CompileFiles(rules FileRules) *FileTable {
	b := newTableBuilder(rules.Bare)
	shown := true
	for _, r := range rules.Rules {
		if _, ok := r.parse(); r.Kind == FileShow && !ok {
			shown = false
		}
	}
	for _, r := range rules.Rules {
		if r.Kind == FileHide && r.Glob && !shown || !b.add(r) {
			b.Left = append(b.Left, r)
		}
	}
	b.holds()
	return &b.FileTable
}

// parse gives the components of what follows the literal directories of a rule.
func (r FileRule) parse() (list []component, ok bool) {
	switch {
	case !r.Glob && r.Fold:
		for name := range strings.SplitSeq(r.Path, "/") {
			list = append(list, component{before: name})
		}
		list[0].deep = true
		return list, true
	case !r.Glob:
		return nil, true
	}
	pattern := r.Path
	if !r.Fold {
		_, pattern = fixedPart(r.Path)
	}
	list, ok = components(pattern)
	if ok && r.Fold {
		list[0].deep = true
	}
	return list, ok
}
