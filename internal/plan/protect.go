package plan

import (
	"errors"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/sallyport/sallyport/internal/policy"
)

// protect adds a point for every mandatory write denial below a write root, to
// the policy's scan depth, and stubs for what git would trust in a git
// directory that has none yet.
func (m *mounter) protect(root *point) error {
	if len(m.rules.Protected) == 0 {
		return nil
	}
	found, err := scanProtected(m.r, m.rules, root.real)
	if err != nil {
		return err
	}
	for _, f := range found {
		name := path.Join(root.name, strings.TrimPrefix(f.Path, root.real))
		if f.Link {
			m.note("%s: %s is a symbolic link: what it points to is protected, the link is checked at the end", f.Rule, name)
		}
		if !f.Absent {
			if real, mode, err := m.r.real(f.Path); err == nil {
				m.forbidWrite(point{name: name, real: real, dir: mode.IsDir()}, f.Rule)
			}
			continue
		}
		if m.inside(path.Dir(name)) != ReadWrite {
			continue
		}
		stub := Stub{Path: f.Path, Dir: f.Dir, Rule: f.Rule}
		if path.Base(f.Path) == "commondir" {
			stub.Content = commondirStub
		}
		m.stub(stub, name, ReadOnly)
	}
	return nil
}

// Protected is a protected path found below a write root.
type Protected struct {
	Path   string
	Dir    bool
	Link   bool // a symbolic link
	Absent bool // does not exist, but its git directory does
	Rule   policy.Rule
}

// ScanProtected lists the existing protected paths below the write roots of a
// plan. Compared before and after a run it shows what a payload planted where
// mounts could not stop it.
func ScanProtected(f FS, rules policy.FileRules, roots []string) ([]Protected, error) {
	r := newResolver(f)
	var out []Protected
	for _, root := range roots {
		found, err := scanProtected(r, rules, root)
		if err != nil {
			return nil, err
		}
		for _, p := range found {
			if !p.Absent {
				out = append(out, p)
			}
		}
	}
	return out, nil
}

type scanner struct {
	r     *resolver
	rules map[string][]policy.ProtectedName // by first component, if that is no glob
	globs []policy.ProtectedName
	left  int
	out   []Protected
}

var errScan = errors.New("too many directories below a write root to look for protected files: " +
	"lower mandatoryDenySearchDepth or name a smaller root in allowWrite")

func scanProtected(r *resolver, rules policy.FileRules, root string) ([]Protected, error) {
	s := scanner{r: r, rules: map[string][]policy.ProtectedName{}, left: maxExpand}
	for _, p := range rules.Protected {
		first, _, _ := strings.Cut(p.Path, "/")
		if strings.ContainsAny(first, "*?[") {
			s.globs = append(s.globs, p)
		} else {
			s.rules[first] = append(s.rules[first], p)
		}
	}
	if mode, err := r.lstat(root); err != nil || !mode.IsDir() {
		return nil, nil
	}
	s.above(root)
	err := s.scan(root, rules.ScanDepth)
	return s.out, err
}

// above looks for names that begin above a write root and end below it: the
// root may be a .git directory.
func (s *scanner) above(root string) {
	for dir := root; dir != "/"; dir = path.Dir(dir) {
		for _, p := range s.rules[path.Base(dir)] {
			s.match(path.Dir(dir), p)
		}
	}
	s.out = slices.DeleteFunc(s.out, func(p Protected) bool { return p.Path == root || !below(p.Path, root) })
}

func (s *scanner) scan(dir string, depth int) error {
	entries, err := s.r.readDir(dir, s.left)
	if errors.Is(err, ErrMany) {
		return errScan
	}
	if err != nil {
		return nil // unreadable for us is unreadable for the payload
	}
	s.left -= len(entries)
	entries = s.concerning(entries)
	git := 0
	for _, e := range entries {
		if inGitDir(e.Name()) {
			git++
		}
		for _, p := range s.rules[e.Name()] {
			s.match(dir, p)
		}
		for _, p := range s.globs {
			if policy.MatchGlob("/"+p.Path, "/"+e.Name()) {
				s.found(path.Join(dir, e.Name()), p)
			}
		}
	}
	if git == 3 {
		s.gitDir(dir)
	}
	for _, e := range entries {
		if depth > 0 && e.IsDir() && e.Name() != ".git" {
			if err := s.scan(path.Join(dir, e.Name()), depth-1); err != nil {
				return err
			}
		}
	}
	return nil
}

// concerning picks the entries that a scan has to do with, by name.
func (s *scanner) concerning(entries []fs.DirEntry) []fs.DirEntry {
	var out []fs.DirEntry
	for _, e := range entries {
		if e.IsDir() || len(s.globs) > 0 || s.rules[e.Name()] != nil || inGitDir(e.Name()) {
			out = append(out, e)
		}
	}
	byName(out)
	return out
}

// inGitDir reports whether every git directory has the name.
func inGitDir(name string) bool { return name == "HEAD" || name == "objects" || name == "refs" }

// match looks for one protected name in a directory that has its first
// component.
func (s *scanner) match(dir string, p policy.ProtectedName) {
	full := path.Join(dir, p.Path)
	if strings.ContainsAny(p.Path, "*?[") {
		names, _ := s.r.expand(policy.PathRule{Path: full, Glob: true})
		for _, n := range names {
			s.found(n, p)
		}
		return
	}
	if !s.found(full, p) && strings.HasPrefix(p.Path, ".git/") {
		s.absent(full, path.Join(dir, ".git"), p)
	}
}

// found takes a protected path over if there is one; of a name that protects
// no directory, such as .git, only what is none.
func (s *scanner) found(full string, p policy.ProtectedName) bool {
	mode, err := s.r.lstat(full)
	if err != nil {
		return false
	}
	if p.Dir || !mode.IsDir() {
		s.out = append(s.out, Protected{Path: full, Dir: mode.IsDir(), Link: mode&fs.ModeSymlink != 0, Rule: p.Rule})
	}
	return true
}

// absent reports what is missing in a real git directory: git would trust it
// the moment it appears.
func (s *scanner) absent(full, gitDir string, p policy.ProtectedName) {
	if mode, err := s.r.lstat(path.Join(gitDir, "HEAD")); err != nil || mode != 0 {
		return
	}
	s.out = append(s.out, Protected{Path: full, Dir: p.Dir, Absent: true, Rule: p.Rule})
}

// gitDir protects a bare repository, whose directory has no .git in its name.
func (s *scanner) gitDir(dir string) {
	for _, p := range s.rules[".git"] {
		rest, ok := strings.CutPrefix(p.Path, ".git/")
		if !ok || strings.ContainsAny(rest, "*?[") {
			continue
		}
		full := path.Join(dir, rest)
		if !s.found(full, p) {
			s.absent(full, dir, p)
		}
	}
}
