package plan

import "slices"

// lateFrom is from how many on mounts are left to the supervisor. bubblewrap
// takes no more than 9000 arguments, and reads the whole list of mounts anew
// after making each; but a process that makes them takes its time to start.
const lateFrom = 40

// Late is a mount that is left to the supervisor, once bubblewrap has made the
// others and before the payload is there.
type Late struct {
	Mount
	// Base is the nearest mount above it that bubblewrap makes, or "/".
	Base string
}

// LateMounts are masks and pins on what is the host's, with nothing below them
// that is bubblewrap's, if there are many; parents before children. Before version
// 0.5 all of them are: it leaves hidden directories to be listed, and cannot bind a
// socket upon itself.
func (p *Plan) LateMounts() []Late {
	if !p.Caps.Perms {
		return p.late(1)
	}
	return p.late(lateFrom)
}

func (p *Plan) late(from int) []Late {
	if len(p.Mounts) < from {
		return nil
	}
	at := map[string]int{} // directories: below another there is nothing
	for i, m := range p.Mounts {
		if m.Dir {
			at[m.Path] = i
		}
	}
	early := p.early(at)
	n := 0
	for _, is := range early {
		if !is {
			n++
		}
	}
	if n < from {
		return nil
	}
	late := make([]Late, 0, n)
	for i, m := range p.Mounts {
		if early[i] {
			continue
		}
		base := above(at, m.Path)
		for base >= 0 && !early[base] {
			base = above(at, p.Mounts[base].Path)
		}
		l := Late{Mount: m, Base: "/"}
		if base >= 0 {
			l.Base = p.Mounts[base].Path
		}
		late = append(late, l)
	}
	return late
}

// early marks the mounts that are bubblewrap's.
func (p *Plan) early(at map[string]int) []bool {
	early := make([]bool, len(p.Mounts))
	claim := func(name string) { // what it stands on, too
		for i := above(at, name); i >= 0 && !early[i]; i = above(at, p.Mounts[i].Path) {
			early[i] = true
		}
	}
	for _, f := range p.Files {
		if i := slices.IndexFunc(p.Mounts, func(m Mount) bool { return m.Path == f.Path }); i >= 0 {
			early[i] = true
		}
		claim(f.Path)
	}
	for i, m := range p.Mounts {
		if !p.canWait(at, m) {
			early[i] = true
			claim(m.Path)
		}
	}
	return early
}

// canWait reports whether a mount only covers what is the host's.
func (p *Plan) canWait(at map[string]int, m Mount) bool {
	switch {
	case m.Path == "/", m.Link != "", m.Open, privateOf(m.Path) != "":
		return false
	case m.Access == Private, m.Access == ReadWrite && !m.Pin:
		return false
	}
	i := above(at, m.Path)
	return i < 0 || p.Mounts[i].Access == ReadOnly || p.Mounts[i].Access == ReadWrite
}

// above finds the nearest mount above a path, -1 if there is none.
func above(at map[string]int, name string) int {
	for name != "/" {
		name = parent(name)
		if i, ok := at[name]; ok {
			return i
		}
	}
	return -1
}
