package seatbelt

import (
	"fmt"
	"slices"

	"github.com/sallyport/sallyport/internal/policy"
)

// Operations of the rules about files. Where any rule names a leaf of a family,
// all that overlap it do: the kernel looks for rules on the leaf first, and a
// reader of the text sees the last one that matches. Both must say the same.
const (
	readOps  = "file-read* file-read-metadata process-exec*"
	writeOps = "file-write* file-write-create file-write-unlink"
	moveOps  = "file-write-create file-write-unlink"
)

// entry is one rule of a policy with its paths resolved.
type entry struct {
	rule    policy.PathRule
	places  []place // of a name: what it is, and where it leads
	pattern pattern // of a pattern
	depth   int
	carried bool // one that movedInto made
}

// files writes the rules about reading and writing.
type files struct {
	w     *writer
	r     resolver
	rules policy.FileRules
	home  string
	tmp   string
	pty   bool

	denyRead, allowRead   []entry
	final                 []entry // read denials that nothing opens
	allowWrite, denyWrite []entry
	protected             []entry // paths of our own
	roots                 []string
}

// prepare resolves the paths of all rules. Where the policy leaves files alone
// ("disabled"), only what is ours is kept.
func (f *files) prepare() error {
	var denyRead, final []policy.PathRule
	for _, r := range f.rules.DenyRead {
		if r.Final {
			final = append(final, r)
		} else {
			denyRead = append(denyRead, r)
		}
	}
	lists := []struct {
		to   *[]entry
		from []policy.PathRule
		make func(policy.PathRule) (entry, error)
	}{
		{&f.allowWrite, f.rules.AllowWrite, f.writeEntry},
		{&f.denyRead, denyRead, f.denyEntry},
		{&f.final, final, f.denyEntry},
		{&f.protected, f.rules.ProtectedPaths, f.denyEntry},
		{&f.allowRead, f.rules.AllowRead, f.readEntry},
		{&f.denyWrite, f.rules.DenyWrite, f.denyEntry},
	}
	if f.rules.Disabled {
		lists = lists[2:4] // final and protected
	}
	for _, l := range lists {
		for _, r := range l.from {
			e, err := l.make(r)
			if err != nil {
				return fmt.Errorf("%s: %w", r.Rule, err)
			}
			*l.to = append(*l.to, e)
		}
	}
	f.findRoots()
	f.denyRead = append(f.denyRead, f.movedInto(f.denyRead)...)
	f.denyWrite = append(f.denyWrite, f.movedInto(f.denyWrite)...)
	return nil
}

// denyEntry is denied by its name and where it leads: either could be replaced.
func (f *files) denyEntry(r policy.PathRule) (entry, error) {
	return f.entry(r, true, f.r.named, f.r.real)
}

// writeEntry: a write lands where its links lead.
func (f *files) writeEntry(r policy.PathRule) (entry, error) { return f.entry(r, false, f.r.real) }

// readEntry: a read rule names the name; a link does not open its target.
func (f *files) readEntry(r policy.PathRule) (entry, error) { return f.entry(r, false, f.r.named) }

func (f *files) entry(r policy.PathRule, deny bool, resolve ...func(string) (place, error)) (entry, error) {
	e := entry{rule: r}
	if r.Glob {
		p, err := parsePattern(r.Path, deny)
		if err != nil {
			return e, err
		}
		if p.names == 0 {
			r.Path, r.Glob = p.base, false
			return f.entry(r, deny, resolve...)
		}
		base, err := f.r.real(p.base)
		if err != nil {
			return e, err
		}
		p.base = base.path
		e.pattern, e.depth = p, p.depth()
		return e, nil
	}
	for _, follow := range resolve {
		at, err := follow(r.Path)
		if err != nil {
			return e, err
		}
		if !slices.Contains(e.places, at) {
			e.places = append(e.places, at)
		}
	}
	e.depth = len(components(e.places[len(e.places)-1].path))
	return e, nil
}

// findRoots lists the directories in which something can be written, without
// those that lie in others.
func (f *files) findRoots() {
	var dirs []string
	for _, e := range f.allowWrite {
		dirs = append(dirs, e.top())
	}
	if f.tmp != "" {
		dirs = append(dirs, f.tmp)
	}
	if f.rules.Disabled {
		dirs = []string{"/"}
	}
	f.roots = outermost(dirs)
}

func outermost(dirs []string) []string {
	slices.Sort(dirs)
	dirs = slices.Compact(dirs)
	var out []string
	for _, d := range dirs {
		if !slices.ContainsFunc(out, func(o string) bool { return within(d, o) }) {
			out = append(out, d)
		}
	}
	return out
}

// top is the directory that holds all an entry covers.
func (e entry) top() string {
	if e.rule.Glob {
		return e.pattern.base
	}
	return e.places[len(e.places)-1].path
}

// writable reports whether anything of what an entry covers, or above it, can
// be written.
func (f *files) writable(e entry) bool {
	tops := []string{e.pattern.base}
	if !e.rule.Glob {
		tops = nil
		for _, at := range e.places {
			tops = append(tops, at.path)
		}
	}
	return slices.ContainsFunc(f.roots, func(root string) bool {
		return slices.ContainsFunc(tops, func(top string) bool { return overlap(root, top) })
	})
}

// movedInto repeats denials that match at any depth in every other place that
// can be written: a directory could be moved there with what they match inside.
func (f *files) movedInto(denials []entry) []entry {
	var out []entry
	for _, e := range denials {
		p := e.pattern
		if !e.rule.Glob || p.shape != shapeDeep || !f.writable(e) {
			continue
		}
		for _, root := range f.roots {
			if len(p.head) == 0 && within(root, p.base) {
				continue
			}
			m := p.moved(root)
			out = append(out, entry{rule: e.rule, pattern: m, depth: m.depth(), carried: true})
		}
	}
	return out
}

// filters of an entry that matches with at least so many names.
func (f *files) filters(e entry, least int, deny bool) []string {
	if e.rule.Glob {
		return []string{f.w.below(e.pattern.base, e.pattern.cover(least))}
	}
	var out []string
	for _, at := range e.places {
		if deny {
			out = append(out, f.w.literal(at.path))
		}
		out = append(out, f.w.subpath(at.path))
	}
	return out
}

// folded gives filters for the names by which a missing path could be made on
// a volume that does not tell cases apart.
func (f *files) folded(e entry) []string {
	var out []string
	for _, at := range e.places {
		if !e.rule.Glob && at.missing() && f.writable(e) {
			rest := components(at.path)[len(components(at.exists)):]
			out = append(out, f.w.below(at.exists, anchor(at.exists)+joined(foldNames(rest))+belowEnd))
		}
	}
	return out
}
