package plan

import (
	"fmt"
	"strings"
)

// tableBuilder makes a FileTable.
type tableBuilder struct {
	FileTable
	edges map[edgeKey]int  // in Edges
	ends  map[string]place // where patterns alike but for the end of their last component wait for it
	words map[FileWord]int // by name and fold alone
	wilds map[FileWild]int
	used  [FileWords]int
	above []int // by node: the edge that leads to it; the root has none
}

type edgeKey struct {
	from uint32
	name string
}

// place is one position.
type place struct{ word, bit int }

func newTableBuilder(bare bool) *tableBuilder {
	return &tableBuilder{FileTable: FileTable{Bare: bare}, edges: map[edgeKey]int{}, ends: map[string]place{},
		words: map[FileWord]int{}, wilds: map[FileWild]int{}, above: []int{-1}}
}

func (p *Positions) set(at place) { p[at.word] |= 1 << at.bit }

// add puts one rule into the table, or nothing of it.
func (b *tableBuilder) add(r FileRule) bool {
	list, ok := r.parse()
	if !ok || len(list) > 0 && r.Kind == FileSeal {
		return false
	}
	if len(list) == 0 {
		b.node(r.Path).Flags |= literalFlags[r.Kind]
		return true
	}
	dir := "/"
	if !r.Fold {
		dir, _ = fixedPart(r.Path)
	}
	return b.pattern(dir, list, r)
}

// node is the edge that leads to a literal path.
func (b *tableBuilder) node(p string) *FileEdge {
	at := &b.Root
	for name := range strings.SplitSeq(strings.Trim(p, "/"), "/") {
		if name == "" {
			break
		}
		key := edgeKey{at.To, name}
		i, ok := b.edges[key]
		if !ok {
			i = len(b.Edges)
			b.edges[key] = i
			b.Edges = append(b.Edges, FileEdge{From: at.To, To: uint32(len(b.above)), Name: name})
			b.above = append(b.above, i)
		}
		at = &b.Edges[i]
	}
	return at
}

// pattern gives a pattern's components positions, one after the other in a word.
func (b *tableBuilder) pattern(dir string, list []component, r FileRule) bool {
	last := len(list) - 1
	alike := fmt.Sprintf("%s\n%d%v\n%q%v", dir, r.Kind, r.Fold, fmt.Sprint(list[:last]), list[last].deep)
	end, ok := b.ends[alike]
	if !ok {
		word := b.room(len(list))
		if word < 0 || !b.wildRoom(list, r.Fold) {
			return false
		}
		for i, c := range list[:last] {
			b.position(place{word, b.used[word] + i}, c, r)
		}
		start := place{word, b.used[word]}
		b.node(dir).Start.set(start)
		end = place{word, start.bit + last}
		b.used[word] += len(list)
		b.ends[alike] = end
	} else if !b.wildRoom(list[last:], r.Fold) {
		return false
	}
	b.Last.set(end)
	b.Kinds[r.Kind].set(end)
	b.position(end, list[last], r)
	return true
}

// room finds a word for a number of positions.
func (b *tableBuilder) room(n int) int {
	for w, used := range b.used {
		if used+n <= 64 {
			return w
		}
	}
	return -1
}

func (b *tableBuilder) wildRoom(list []component, fold bool) bool {
	fresh := map[FileWild]bool{}
	for _, c := range list {
		key := FileWild{Before: c.before, After: c.after, Fold: fold}
		if _, known := b.wilds[key]; c.wild && !known {
			fresh[key] = true
		}
	}
	return len(b.Wilds)+len(fresh) <= FileWilds
}

// position makes a position wait for a component.
func (b *tableBuilder) position(at place, c component, r FileRule) {
	if c.deep {
		b.Loop.set(at)
	}
	if r.Kind == FileHide || r.Kind == FileShow {
		b.Reads.set(at)
	}
	if !c.wild && !b.Last.has(at) {
		if r.Fold {
			b.Hold.set(at)
		} else if r.Kind == FileHide || r.Kind == FileProtect {
			b.GlobHold.set(at)
		}
	}
	if c.wild {
		key := FileWild{Before: c.before, After: c.after, Fold: r.Fold}
		i, ok := b.wilds[key]
		if !ok {
			i = len(b.Wilds)
			b.wilds[key] = i
			b.Wilds = append(b.Wilds, key)
		}
		b.Wilds[i].Mask.set(at)
		return
	}
	key := FileWord{Name: c.before, Fold: r.Fold}
	i, ok := b.words[key]
	if !ok {
		i = len(b.Words)
		b.words[key] = i
		b.Words = append(b.Words, key)
	}
	b.Words[i].Mask.set(at)
}

func (p *Positions) has(at place) bool { return p[at.word]&(1<<at.bit) != 0 }

// holds marks what leads to a refused path: whoever moves it moves that.
func (b *tableBuilder) holds() {
	const refused = FileFlagHide | FileFlagSeal | FileFlagProtect
	for i := len(b.Edges) - 1; i >= 0; i-- { // what is deeper was made later
		e := &b.Edges[i]
		up := &b.Root
		if at := b.above[e.From]; at >= 0 {
			up = &b.Edges[at]
		}
		if e.Flags&(refused|FileFlagHolds) != 0 {
			up.Flags |= FileFlagHolds
		}
		if e.refuses(&b.FileTable) {
			e.Flags |= FileFlagGlobs
		}
		if e.Flags&FileFlagGlobs != 0 {
			up.Flags |= FileFlagGlobs
		}
	}
}

// refuses reports whether a pattern that begins below a directory refuses anything.
func (e *FileEdge) refuses(t *FileTable) bool {
	for w, start := range e.Start {
		for ; start != 0; start &= start - 1 {
			bit := start & -start
			for t.Last[w]&bit == 0 {
				bit <<= 1
			}
			if bit&(t.Kinds[FileHide][w]|t.Kinds[FileProtect][w]) != 0 {
				return true
			}
		}
	}
	return false
}
