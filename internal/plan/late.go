package plan

import "path"

// bwrapMasks is how many masks bubblewrap is given. It takes no more than 9000
// arguments, and reads the whole list of mounts after making each.
const bwrapMasks = 200

// LateMasks are those of the mounts that are left to the supervisor, once
// bubblewrap has made the others and before the payload is there: masks beyond a
// number that have nothing mounted below them, on what is the host's.
func (p *Plan) LateMasks() []Mount {
	if len(p.Mounts) <= bwrapMasks {
		return nil
	}
	at := make(map[string]Mount, len(p.Mounts))
	inner := map[string]bool{} // something is mounted below
	for _, m := range p.Mounts {
		at[m.Path] = m
		for dir := path.Dir(m.Path); !inner[dir]; dir = path.Dir(dir) {
			inner[dir] = true
		}
	}
	for _, f := range p.Files {
		inner[f.Path] = true
	}
	var late []Mount
	n := 0
	for _, m := range p.Mounts {
		if m.Link != "" || m.Pin || m.Access != Hidden && m.Access != ReadOnly || inner[m.Path] || !onHost(at, m.Path) {
			continue
		}
		if n++; n > bwrapMasks {
			late = append(late, m)
		}
	}
	return late
}

// onHost reports whether what lies at a path, under its mask, is the host's own:
// in what is the sandbox's nothing lies there before it is made.
func onHost(at map[string]Mount, name string) bool {
	if privateOf(name) != "" || below(name, "/proc") || below(name, "/dev") {
		return false
	}
	for dir := path.Dir(name); ; dir = path.Dir(dir) {
		if m, ok := at[dir]; ok {
			return m.Link == "" && (m.Access == ReadOnly || m.Access == ReadWrite)
		}
		if dir == "/" {
			return true
		}
	}
}
