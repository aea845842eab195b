package plan

import (
	"errors"
	"io/fs"
	"path"
	"slices"

	"github.com/sallyport/sallyport/internal/policy"
)

// Stub is a placeholder made on the host for a protected path that does not
// exist, so that a mount can stand on it, or a directory that leads to one. It
// is journalled before it is made and removed with the run.
type Stub struct {
	Path    string
	Dir     bool
	Content string
	Rule    policy.Rule
}

// commondirStub keeps a git directory its own common directory
// (gitrepository-layout(5)): an empty commondir file would break git.
const commondirStub = ".\n"

// addAbsent keeps a path that does not exist from being made, where the payload
// could make it. Not so for the built-in list of secrets: dozens of placeholders
// would confuse the programs whose files they are.
func (m *mounter) addAbsent(name string, rule policy.PathRule) {
	real, _, err := m.r.real(name)
	if !errors.Is(err, fs.ErrNotExist) || m.above(real) != ReadWrite || m.inside(path.Dir(name)) != ReadWrite {
		return
	}
	access, _ := m.decide(name, false)
	if access == ReadWrite {
		return
	}
	if access == Hidden && rule.Rule.File == "" && !rule.Final && !m.nobodyMakes(real, access) {
		m.note("%s: %s does not exist, and the command could make it", rule.Rule, name)
		return
	}
	s := Stub{Path: real, Rule: rule.Rule}
	if rule.Rule.File == "" {
		s.Dir = path.Base(name) == "sallyport" // all of our own directories are
		if !s.Dir {
			s.Content = emptyPolicy
		}
	}
	m.stub(s, name, access)
}

// nameFiles has the kernel decide about names, where it can.
func (m *mounter) nameFiles(in Input) {
	if !in.ByName {
		return
	}
	var fsys FS
	if in.Linked {
		fsys = in.FS
	}
	m.named = KernelFiles(WithoutGit(m.rules), fsys, m.home, m.runtimeDir)
	m.names = CompileFiles(m.named)
	for _, r := range m.names.Left {
		m.note("%s: the kernel cannot follow the pattern %s: it holds for what exists at the start", r.Rule, r.Path)
	}
}

// Absent is a path that does not exist and is not to come to be, beside what a
// policy says of names: what git trusts in a repository that there is, and where
// links of the policy's lead.
type Absent struct {
	Path   string `json:"path"` // absolute
	Hidden bool   `json:"hidden,omitempty"`
}

// KeepAbsent adds paths to the rules. They can only take away.
func (f *FileRules) KeepAbsent(paths []Absent) {
	for _, p := range paths {
		kind := FileProtect
		if p.Hidden {
			kind = FileSeal
		}
		f.Rules = append(f.Rules, FileRule{Kind: kind, Path: p.Path})
	}
}

// nobodyMakes reports whether the kernel refuses to make a path by its name, so
// that nothing has to stand there.
func (m *mounter) nobodyMakes(p string, access Access) bool {
	return m.names != nil && m.names.Refuses(FileOpWrite, p) && m.names.Refuses(FileOpMkdir, p) &&
		(access != Hidden || m.names.Refuses(FileOpRead, p))
}

// emptyPolicy says nothing, where an empty file would be an error.
const emptyPolicy = "{}\n"

// stub plans a placeholder on the host, the directories that lead to it, and
// the mount that covers it; where the kernel decides about names, only a name.
func (m *mounter) stub(s Stub, name string, access Access) {
	if _, done := m.points[s.Path]; done || m.nobodyMakes(s.Path, access) {
		return
	}
	if m.names != nil {
		m.absent = append(m.absent, Absent{Path: s.Path, Hidden: access == Hidden})
		return
	}
	var dirs []Stub
	for dir := path.Dir(s.Path); ; dir = path.Dir(dir) {
		if _, err := m.r.lstat(dir); err == nil {
			break
		}
		if !slices.ContainsFunc(m.stubs, func(o Stub) bool { return o.Path == dir }) {
			dirs = append(dirs, Stub{Path: dir, Dir: true, Rule: s.Rule})
		}
	}
	slices.Reverse(dirs)
	m.stubs = append(append(m.stubs, dirs...), s)
	m.place(&point{name: name, real: s.Path, dir: s.Dir, access: access, rule: s.Rule})
}
