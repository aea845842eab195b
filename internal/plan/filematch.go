package plan

import (
	"strings"

	"github.com/sallyport/sallyport/internal/event"
)

// FileOp is what is attempted with a name.
type FileOp uint8

const (
	FileOpRead FileOp = iota
	FileOpWrite
	FileOpMkdir
	FileOpDelete
	FileOpMove // a rename, from or to; a symbolic link of that name
)

// Operation is the one that the policy decides.
func (o FileOp) Operation() event.Operation {
	return [...]event.Operation{event.FileRead, event.FileWrite, event.FileCreate, event.FileDelete, event.FileRename}[o]
}

// Refuses reports whether the table refuses an operation on an absolute, clean
// path: what the kernel's programs do, written once more.
func (t *FileTable) Refuses(op FileOp, p string) bool {
	m := match{t: t, active: t.Root.Start, edge: &t.Root}
	m.literal(t.Root.Flags)
	for name := range strings.SplitSeq(strings.Trim(p, "/"), "/") {
		if name != "" {
			m.step(name)
		}
	}
	return m.refuses(op)
}

// match is a path on its way through a table.
type match struct {
	t                                *FileTable
	edge                             *FileEdge // nil: no literal path begins like this one
	active                           Positions
	hidden, sealed, protected, named bool
	inRoot                           bool
	hits                             Positions // of the last component
	flags                            FileFlags // of the last component
}

// step takes one component.
func (m *match) step(name string) {
	m.hits = m.t.waiting(name)
	for w := range m.hits {
		m.hits[w] &= m.active[w]
	}
	hit := func(k FileKind) bool { return m.hits.meets(m.t.Kinds[k]) }
	m.hidden = m.hidden || hit(FileHide)
	m.protected = m.protected || hit(FileProtect)
	m.named = m.named || hit(FileNameDir)
	m.inRoot = m.inRoot || hit(FileRoot)
	for w := range m.active {
		m.active[w] = m.active[w]&m.t.Loop[w] | (m.hits[w]&^m.t.Last[w])<<1
	}
	m.edge = m.t.next(m.edge, name)
	m.flags = 0
	if m.edge != nil {
		m.literal(m.edge.Flags)
		for w := range m.active {
			m.active[w] |= m.edge.Start[w]
		}
	}
	m.hidden = m.hidden && !hit(FileShow)
}

// literal takes what the tree says of a path.
func (m *match) literal(f FileFlags) {
	if f&FileFlagPrivate != 0 {
		m.hidden, m.protected = false, false
	}
	m.hidden = (m.hidden || f&FileFlagHide != 0) && f&FileFlagShow == 0
	m.sealed = m.sealed || f&FileFlagSeal != 0
	m.protected = m.protected || f&FileFlagProtect != 0
	m.inRoot = m.inRoot || f&FileFlagRoot != 0
	m.flags = f
}

func (m *match) refuses(op FileOp) bool {
	hit := func(p Positions) bool { return m.hits.meets(p) }
	switch {
	case m.hidden || m.sealed:
		return true
	case op == FileOpRead:
		return false
	case m.protected:
		return true
	case m.inRoot && (m.named || hit(m.t.Kinds[FileName]) || op != FileOpMkdir && hit(m.t.Kinds[FileGitFile])):
		return true
	case op < FileOpDelete:
		return false
	case m.flags&FileFlagHolds != 0, m.inRoot && (hit(m.t.Hold) || hit(m.t.Kinds[FileNameHold])):
		return true
	}
	return op == FileOpMove && (m.flags&FileFlagGlobs != 0 || hit(m.t.GlobHold))
}

func (p Positions) meets(o Positions) bool {
	for w := range p {
		if p[w]&o[w] != 0 {
			return true
		}
	}
	return false
}

// waiting are the positions that wait for a name.
func (t *FileTable) waiting(name string) (mask Positions) {
	folded := foldASCII(name)
	take := func(m Positions) {
		for w := range mask {
			mask[w] |= m[w]
		}
	}
	for _, w := range t.Words {
		if w.Name == name && !w.Fold || w.Name == folded && w.Fold {
			take(w.Mask)
		}
	}
	for _, w := range t.Wilds {
		n := name
		if w.Fold {
			n = folded
		}
		if len(n) >= len(w.Before)+len(w.After) && strings.HasPrefix(n, w.Before) && strings.HasSuffix(n, w.After) {
			take(w.Mask)
		}
	}
	return mask
}

func (t *FileTable) next(from *FileEdge, name string) *FileEdge {
	if from == nil {
		return nil
	}
	for i := range t.Edges {
		if e := &t.Edges[i]; e.From == from.To && e.Name == name {
			return e
		}
	}
	return nil
}

// foldASCII makes ASCII capitals small: what the kernel's programs can.
func foldASCII(s string) string {
	b := []byte(s)
	for i, c := range b {
		if c >= 'A' && c <= 'Z' {
			b[i] += 'a' - 'A'
		}
	}
	return string(b)
}
