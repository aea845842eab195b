package plan

import (
	"path"
	"slices"
	"strings"
)

// Masks lists the mounts that take something away from what lies below them,
// parents before children. Each is bound to the file that it covers: one that
// the host puts in that file's place is bare. A write root is not among them:
// what the host puts in its place is read-only.
func (p *Plan) Masks() []Mount {
	var out []Mount
	for _, m := range p.Mounts {
		if m.masks() {
			out = append(out, m)
		}
	}
	return out
}

// Masked reports whether there are any.
func (p *Plan) Masked() bool { return slices.ContainsFunc(p.Mounts, Mount.masks) }

func (m Mount) masks() bool {
	switch {
	case m.Path == "/", m.Link != "", m.Shut, below(m.Path, "/proc"), below(m.Path, "/dev"):
		return false
	case m.Access == Private && privateOf(m.Path) != "":
		return false
	}
	return m.Access != ReadWrite || m.Pin
}

// Makeable reports whether the payload could make what is missing at a mask's path.
func (p *Plan) Makeable(m Mount) bool {
	access := ReadOnly
	for _, o := range p.Mounts { // parents come before children
		if o.Path != m.Path && below(m.Path, o.Path) {
			access = o.Access
		}
	}
	return m.Access == ReadOnly && access == ReadWrite
}

// StubFor gives the placeholder for a mask whose file the host has removed, if
// it is one for which a placeholder would have been made at the start: what git
// trusts.
func StubFor(m Mount) (Stub, bool) {
	if !strings.HasPrefix(m.Rule.Name, "protected:.git/") {
		return Stub{}, false
	}
	s := Stub{Path: m.Path, Dir: m.Dir, Rule: m.Rule}
	if path.Base(m.Path) == "commondir" {
		s.Content = commondirStub
	}
	return s, true
}
