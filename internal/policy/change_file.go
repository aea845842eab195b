package policy

import (
	"github.com/sallyport/sallyport/internal/event"
)

// FlipFile says what would change the decision on an operation on a path.
func (p *Policy) FlipFile(op event.Operation, path string) Flip {
	decide := func(v *Policy) Decision { return v.decideFile(op, path, true) }
	d := p.all(p.within, decide)
	switch {
	case d.Reason == event.RequestInvalid:
		return Flip{Why: whyInvalid}
	case d.Allowed() && fileAccess[op] == accessRead:
		return p.flipReadable(path)
	case d.Private():
		return Flip{Why: "the directory is the sandbox's own: nothing of the host's is written"}
	case d.Allowed():
		return Flip{Changes: []Change{addPath("filesystem.denyWrite", path)}}
	}
	if f, done := p.flipBound(decide); done {
		return f
	}
	return p.flipDenied(op, path)
}

// flipReadable hides a path. An entry that opens this very path wins over one
// that hides it, so it has to go.
func (p *Policy) flipReadable(path string) Flip {
	if p.files.Disabled {
		return Flip{Changes: []Change{{Key: "filesystem.disabled", Value: "false"}, addPath("filesystem.denyRead", path)}}
	}
	var f Flip
	var rest []PathRule
	for _, r := range p.allowRead.covering(path) {
		if _, depth := newPathSet([]PathRule{r}).deepest(path); depth == len(path) {
			f.Changes = append(f.Changes, Change{Key: "filesystem.allowRead", Remove: r.Path, Rule: r.Rule})
		} else {
			rest = append(rest, r)
		}
	}
	_, open := newPathSet(rest).deepest(path)
	if _, depth := p.denyRead.deepest(path); depth <= open {
		f.Changes = append(f.Changes, addPath("filesystem.denyRead", path))
	}
	return f
}

// flipDenied opens a path.
func (p *Policy) flipDenied(op event.Operation, path string) Flip {
	var f Flip
	kind := fileAccess[op]
	if r, depth := p.hidden.deepest(path); depth >= 0 {
		return Flip{Why: whyOwn + ", " + r.Rule.String()}
	}
	if !p.decideRead(path).Allowed() {
		f.Changes = append(f.Changes, addPath("filesystem.allowRead", path))
		if p.secret(path) {
			f.Careful = "it is a place of secrets: nothing else proposes this"
		}
	}
	if kind == accessRead {
		return f
	}
	if r, depth := p.protectedPaths.deepest(path); depth >= 0 {
		return Flip{Why: whyOwn + ", " + r.Rule.String()}
	}
	if kind == accessMove {
		if why := p.immovable(path); why != "" {
			return Flip{Why: why}
		}
	}
	if p.files.Disabled {
		return f
	}
	root, depth := p.allowWrite.deepest(path)
	if r, ok := p.protectedName(op, kind, path, depth >= 0); ok {
		if !p.openedByGitConfig(op, kind, path) {
			return Flip{Why: whyName + ", " + r.String()}
		}
		f.Changes = append(f.Changes, Change{Key: "filesystem.allowGitConfig", Value: "true"})
	}
	for _, r := range p.denyWrite.covering(path) {
		f.Changes = append(f.Changes, Change{Key: "filesystem.denyWrite", Remove: r.Path, Rule: r.Rule})
	}
	if !p.decideWrite(path, root, depth, false).Allowed() {
		f.Changes = append(f.Changes, addPath("filesystem.allowWrite", path))
	}
	return f
}

// immovable says what keeps a directory where it is.
func (p *Policy) immovable(path string) string {
	if r, ok := p.protectedPaths.below(path); ok {
		return "it holds " + quote(r.Path) + ", and would take it along, " + r.Rule.String()
	}
	if p.files.Disabled {
		return ""
	}
	for _, s := range []*pathSet{p.denyWrite, p.denyRead} {
		if r, ok := s.below(path); ok {
			return "it holds " + quote(r.Path) + ", which is denied, and would take it along, " + r.Rule.String()
		}
	}
	return ""
}

// openedByGitConfig reports whether no protected name would be left if those of
// git's configuration were not protected.
func (p *Policy) openedByGitConfig(op event.Operation, kind access, path string) bool {
	open := *p
	open.names = newNameMatchers(protectedNames(true))
	_, still := open.protectedName(op, kind, path, true)
	return !still
}
