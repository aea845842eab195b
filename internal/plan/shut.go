package plan

import (
	"math"
	"path"
	"slices"
)

// A hidden directory in which something is open is empty but for that. Other
// names of the host's are refused there (EACCES) as long as something stands for
// each: directories cost little, a file is a mount.
const (
	maxShutDirs  = 1000
	maxShutFiles = 100
)

// shut adds what stands for the names in hidden directories in which something
// is open, and shuts the directories that lead there.
func (m *mounter) shut(mounts []Mount) []Mount {
	if !slices.ContainsFunc(mounts, func(o Mount) bool { return o.Open }) {
		return mounts
	}
	s := shutter{m: m, at: make(map[string]int, len(mounts)), leads: map[string]bool{}}
	for i, o := range mounts {
		s.at[o.Path] = i
		for dir := path.Dir(o.Path); !s.leads[dir]; dir = path.Dir(dir) {
			s.leads[dir] = true
		}
	}
	for _, o := range mounts {
		// Of the root itself names look absent: it holds what is not the host's.
		if o.Open && o.Path != "/" && privateOf(o.Path) == "" {
			s.fill(o.Path)
		}
	}
	if len(s.out) == 0 {
		return mounts
	}
	if s.left > 0 {
		m.note("%d names in hidden directories in which something is open look absent instead of refused: there are too many", s.left)
	}
	mounts = append(mounts, s.out...)
	slices.SortStableFunc(mounts, func(a, b Mount) int { return comparePaths(a.Path, b.Path) })
	return mounts
}

type shutter struct {
	m           *mounter
	at          map[string]int
	leads       map[string]bool // directories above a mount
	out         []Mount
	dirs, files int
	left        int // what there was no room for
}

func (s *shutter) fill(dir string) {
	entries, err := s.m.r.sorted(dir, math.MaxInt)
	if err != nil {
		return // unreadable for us is unreadable for the payload
	}
	for _, e := range entries {
		name := path.Join(dir, e.Name())
		if _, mounted := s.at[name]; mounted {
			continue
		}
		access, rule := s.m.decide(name, e.IsDir())
		o := Mount{Path: name, Access: Hidden, Dir: e.IsDir(), Open: s.leads[name], Shut: true, Rule: rule}
		switch {
		case access != Hidden: // it would be open if the list that says so named it
		case o.Open:
			s.out = append(s.out, o)
			s.fill(name)
		case o.Dir && s.dirs < maxShutDirs:
			s.dirs++
			s.out = append(s.out, o)
		case !o.Dir && s.files < maxShutFiles:
			s.files++
			s.out = append(s.out, o)
		default:
			s.left++
		}
	}
}
