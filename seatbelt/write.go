package seatbelt

import (
	"path"
	"slices"
	"strings"
)

// devices may be written by everybody, and are no files.
var devices = []string{"/dev/null", "/dev/zero", "/dev/tty", "/dev/dtracehelper", "/dev/autofs_nowait"}

// write writes the section about writing, and what keeps names in place.
func (f *files) write() {
	if f.rules.Disabled {
		f.w.allowAll(writeOps)
		f.finals(writeOps)
		f.denyPaths(f.protected)
		f.move()
		return
	}
	roots := f.writeFilters()
	f.w.allow(writeOps, append(f.deviceFilters(), roots...)...)
	// What is hidden is not written either.
	hidden := f.touching(f.denyRead)
	var open []entry
	if len(hidden) > 0 {
		open = f.allowRead
	}
	f.ordered(writeOps, hidden, open, func(filter string) string { return allOf(anyOf(roots...), filter) })
	f.finals(writeOps)
	f.denyFolded(hidden)
	f.denyPaths(f.touching(f.denyWrite))
	f.denyPaths(f.touching(f.protected))
	f.protectedNames()
	f.move()
}

func (f *files) writeFilters() []string {
	var filters []string
	for _, e := range f.allowWrite {
		filters = append(filters, f.filters(e, 0, false)...)
	}
	if f.tmp != "" {
		filters = append(filters, f.w.subpath(f.tmp))
	}
	return filters
}

func (f *files) deviceFilters() []string {
	var filters []string
	for _, d := range devices {
		filters = append(filters, f.w.literal(d))
	}
	if f.pty {
		filters = append(filters, f.w.literal("/dev/ptmx"), f.w.below("/", ttyRegex))
	}
	return filters
}

// ttyRegex matches terminals.
const ttyRegex = `^/dev/ttys[0-9]+$`

// touching keeps the denials that matter where something can be written.
func (f *files) touching(list []entry) []entry {
	var out []entry
	for _, e := range list {
		if f.writable(e) {
			out = append(out, e)
		}
	}
	return out
}

func (f *files) denyPaths(list []entry) {
	var filters []string
	for _, e := range list {
		filters = append(filters, f.filters(e, 0, true)...)
	}
	f.w.deny(writeOps, filters...)
	f.denyFolded(list)
}

func (f *files) denyFolded(list []entry) {
	var filters []string
	for _, e := range list {
		filters = append(filters, f.folded(e)...)
	}
	f.w.deny(writeOps, filters...)
}

// anchors are where protected names are: wherever something can be written,
// and at home.
func (f *files) anchors() []string {
	dirs := slices.Clone(f.roots)
	if home, err := f.r.real(f.home); err == nil {
		dirs = append(dirs, home.path)
	} else {
		f.w.fail(err)
	}
	return outermost(dirs)
}

// protectedNames denies the names whose content runs outside later, at any
// depth and in any case.
func (f *files) protectedNames() {
	var names []string
	for _, p := range f.rules.Protected {
		end := `$`
		if p.Dir {
			end = belowEnd
		}
		names = append(names, f.w.below("/", protectedRegex(p.Path)+end))
	}
	if len(names) > 0 {
		f.w.deny(writeOps, allOf(f.anchored(), anyOf(names...)))
	}
}

func (f *files) anchored() string {
	var dirs []string
	for _, d := range f.anchors() {
		dirs = append(dirs, f.w.subpath(d))
	}
	return anyOf(dirs...)
}

// protectedRegex is the expression for a name, wherever it stands.
func protectedRegex(name string) string {
	re := `^(/` + anyName + `)*`
	for c := range strings.SplitSeq(name, "/") {
		if c == "**" {
			re += `(/` + anyName + `)*`
		} else {
			re += "/" + foldGlob(c)
		}
	}
	return re
}

// move keeps what is protected where it is. A rename is an unlink of its
// source and a creation of its target, so neither is allowed on the directories
// that lead to a protected path: it can neither be moved away, nor be covered
// by something made elsewhere.
func (f *files) move() {
	w := f.w
	var filters []string
	for _, dir := range f.ancestors() {
		filters = append(filters, w.literal(dir))
	}
	for _, e := range f.immovable() {
		if e.rule.Glob {
			for _, re := range e.pattern.parents() {
				filters = append(filters, w.below(e.pattern.base, re))
			}
		}
	}
	w.deny(moveOps, filters...)
	if names := f.protectedParents(); len(names) > 0 {
		w.deny(moveOps, allOf(f.anchored(), anyOf(names...)))
	}
}

// immovable lists all that is denied where something can be written.
func (f *files) immovable() []entry {
	return f.touching(slices.Concat(f.denyRead, f.final, f.denyWrite, f.protected))
}

// ancestors lists the directories above denied paths that could be moved.
func (f *files) ancestors() []string {
	var out []string
	add := func(p string) {
		for dir := p; ; dir = path.Dir(dir) {
			if slices.ContainsFunc(f.roots, func(root string) bool { return within(dir, root) }) {
				out = append(out, dir)
			}
			if dir == "/" {
				return
			}
		}
	}
	for _, e := range f.immovable() {
		switch {
		case e.carried: // holds wherever its base goes
			continue
		case e.rule.Glob:
			add(e.pattern.base)
			continue
		}
		for _, at := range e.places {
			add(path.Dir(at.path))
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// protectedParents are expressions for the directories that lead to protected
// names.
func (f *files) protectedParents() []string {
	var dirs []string
	for _, p := range f.rules.Protected {
		for dir := path.Dir(p.Path); dir != "."; dir = path.Dir(dir) {
			if rest, ok := strings.CutSuffix(dir, "/**"); ok {
				dir = rest + "/*" // what is deeper cannot be told from content
			}
			dirs = append(dirs, dir)
		}
	}
	slices.Sort(dirs)
	var out []string
	for _, dir := range slices.Compact(dirs) {
		out = append(out, f.w.below("/", protectedRegex(dir)+`$`))
	}
	return out
}
