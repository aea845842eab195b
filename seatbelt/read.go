package seatbelt

import (
	"slices"
)

// order writes denials and permissions such that the one that starts furthest
// down a path decides, and a permission wins a tie: by depth, each denial
// before the permissions of its depth. Patterns with **/ match at many depths:
// they are said again, for matches at least so deep, wherever something of the
// other kind stood in between.
type order struct {
	f     *files
	ops   string
	allow func(filter string) string // narrows a permission

	denies, allows []entry
	last           int // the deepest a name or static pattern goes

	// What was written since a deep denial or permission was.
	deniedAt, allowedAt map[int]int // index of a deep entry → count of the other kind then
	denied, allowed     int         // rules written so far
}

func (f *files) ordered(ops string, denies, allows []entry, narrow func(string) string) {
	o := &order{f: f, ops: ops, allow: narrow, denies: denies, allows: allows,
		deniedAt: map[int]int{}, allowedAt: map[int]int{}}
	for _, e := range slices.Concat(denies, allows) {
		if !e.rule.Glob || e.pattern.shape == shapeStatic {
			o.last = max(o.last, e.depth)
		}
	}
	for depth := 0; depth <= o.last+1; depth++ {
		o.level(depth)
	}
	o.tangled()
}

func (o *order) level(depth int) {
	var filters []string
	for i, e := range o.denies {
		if o.due(e, depth, o.deniedAt, i, o.allowed) {
			filters = append(filters, o.f.filters(e, depth, true)...)
			o.deniedAt[i] = o.allowed
		}
	}
	o.write(true, filters)
	filters = nil
	for i, e := range o.allows {
		if o.due(e, depth, o.allowedAt, i, o.denied) {
			filters = append(filters, o.f.filters(e, depth, false)...)
			o.allowedAt[i] = o.denied
		}
	}
	o.write(false, filters)
}

// due reports whether an entry has to be written at a depth: at its own, and if
// it goes deeper, again where others were written meanwhile.
func (o *order) due(e entry, depth int, at map[int]int, i, others int) bool {
	before, written := at[i]
	switch {
	case !e.rule.Glob || e.pattern.shape != shapeDeep:
		return depth == min(e.depth, o.last+1)
	case !written:
		return depth == min(e.depth, o.last+1)
	}
	return others > before
}

func (o *order) write(deny bool, filters []string) {
	if len(filters) == 0 {
		return
	}
	if deny {
		o.denied++
		o.f.w.deny(o.ops, filters...)
		return
	}
	o.allowed++
	if o.allow != nil {
		for i := range filters {
			filters[i] = o.allow(filters[i])
		}
	}
	o.f.w.allow(o.ops, filters...)
}

// tangled settles what two patterns with **/ leave open: which of them matches
// deeper cannot be told by an order. A denial below a permission is said once
// more; where a pattern ends in more than one name, all of the denial is.
func (o *order) tangled() {
	var filters []string
	for _, d := range o.denies {
		if !isDeep(d) {
			continue
		}
		for _, a := range o.allows {
			if !isDeep(a) || !overlap(d.pattern.base, a.pattern.base) {
				continue
			}
			if len(d.pattern.tail) == 1 && len(a.pattern.tail) == 1 {
				filters = append(filters, o.f.w.below(d.pattern.base, belowOf(d.pattern, a.pattern)))
			} else {
				filters = append(filters, o.f.filters(d, 0, true)...)
			}
		}
	}
	o.write(true, filters)
}

func isDeep(e entry) bool { return e.rule.Glob && e.pattern.shape == shapeDeep }

// read writes the section about reading.
func (f *files) read() {
	f.w.allowAll(readOps)
	f.ordered(readOps, f.denyRead, f.allowRead, nil)
	f.finals(readOps)
	if f.coversRoot() {
		f.w.allow(readOps, f.w.literal("/")) // dyld aborts without it
	}
	f.w.line("(allow file-read-metadata (vnode-type DIRECTORY))")
}

// finals writes the denials that no permission opens.
func (f *files) finals(ops string) {
	var filters []string
	for _, e := range f.final {
		filters = append(filters, f.filters(e, 0, true)...)
	}
	f.w.deny(ops, filters...)
}

// coversRoot reports whether / may be denied itself, by name or by /*.
func (f *files) coversRoot() bool {
	return slices.ContainsFunc(f.denyRead, func(e entry) bool { return e.top() == "/" })
}
