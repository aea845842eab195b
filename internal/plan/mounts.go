package plan

import (
	"fmt"
	"path"
	"slices"

	"github.com/sallyport/sallyport/internal/event"
	"github.com/sallyport/sallyport/internal/policy"
)

// Access is what the payload may do below a path. The zero value is nothing.
type Access uint8

const (
	Hidden Access = iota
	ReadOnly
	ReadWrite
	Private // the sandbox's own, not the host's
)

func (a Access) String() string {
	return [...]string{"hidden", "ro", "rw", "private"}[a]
}

// Mount is one change of access in the tree: everything below Path has Access,
// until a deeper mount says otherwise.
type Mount struct {
	Path   string
	Access Access
	Dir    bool
	// Open marks a hidden directory below which something is visible again: it
	// can be passed through but not listed.
	Open bool
	// Shut marks what stands for a name in such a directory, in which nothing of
	// the host's is.
	Shut bool
	// Pin marks a mount that changes no access but makes its directory a mount
	// point, which cannot be renamed away (EBUSY, rename(2)).
	Pin bool
	// Link is the target of a symbolic link that is made anew, because it stands
	// in a directory whose content is hidden; empty otherwise.
	Link string
	Rule policy.Rule
}

// point is a path at which access may change. Name is the path as the policy
// spells it, Real where it leads; decisions are made on Name, mounts on Real.
type point struct {
	name, real string
	dir        bool
	listed     bool // the policy opens it by name
	pin        bool
	link       string
	access     Access
	rule       policy.Rule
}

// privateDirs are the sandbox's own; what the host has there is not visible.
var privateDirs = []string{"/dev", "/proc", "/tmp", "/run"}

type mounter struct {
	policy *policy.Policy
	rules  policy.FileRules
	r      *resolver
	home   string
	fifos  bool              // hide those of the host
	perms  bool              // directories can be made that nobody may read
	points map[string]*point // by real path
	list   []*point          // the same, sorted if it says so
	sorted bool
	notes  []string
	stubs  []Stub
	unix   []UnixSocket
	named  FileRules
	names  *FileTable // named, as the kernel has it; nil where it does not decide
	absent []Absent   // what it has to be told beside
	// runtimeDir is private, wherever it is.
	runtimeDir string
}

// mounts turns the policy's file rules into an ordered list of mounts, parents
// before children.
func (m *mounter) mounts(cwd string) ([]Mount, error) {
	if m.rules.Disabled {
		m.add(point{name: "/", real: "/", dir: true, listed: true})
	}
	if err := m.addRules(); err != nil {
		return nil, err
	}
	m.addCwd(cwd)
	m.addHome()
	if err := m.addUnixSockets(m.policy.Unix()); err != nil {
		return nil, err
	}
	m.sealSys()
	for _, root := range m.writeRoots() {
		if err := m.protect(root); err != nil {
			return nil, err
		}
	}
	if m.fifos {
		m.hideFIFOs()
	}
	m.pinAncestors()
	mounts := m.order()
	if m.perms {
		mounts = m.shut(mounts)
	}
	return append(mounts, m.maskedProc()...), nil
}

// sealSys keeps the kernel's settings from a payload that may write everything.
func (m *mounter) sealSys() {
	if real, mode, err := m.r.real("/sys"); err == nil && m.above(real) == ReadWrite {
		m.forbidWrite(point{name: "/sys", real: real, dir: mode.IsDir()}, policy.Rule{Name: "kernel-settings"})
	}
}

// maskedProc hides what /proc tells of the user's keyrings, which are not of
// this namespace: the names of keys (keyrings(7)).
func (m *mounter) maskedProc() []Mount {
	var out []Mount
	for _, p := range []string{"/proc/keys", "/proc/key-users"} {
		if _, err := m.r.lstat(p); err == nil {
			out = append(out, Mount{Path: p, Rule: policy.Rule{Name: "keyring"}})
		}
	}
	return out
}

func (m *mounter) addRules() error {
	type list struct {
		rules []policy.PathRule
		add   func(name string, rule policy.PathRule)
	}
	for _, l := range []list{
		{m.rules.AllowWrite, m.addWrite},
		{m.rules.DenyRead, m.addDeny},
		{m.rules.AllowRead, m.addRead},
		{m.rules.DenyWrite, m.addDeny},
		{m.rules.ProtectedPaths, m.addDeny},
		{m.rules.Points, m.addRead},
	} {
		m.r.expect(l.rules)
		for _, rule := range l.rules {
			if !rule.Glob {
				l.add(rule.Path, rule)
				continue
			}
			names, err := m.r.expand(rule)
			if err != nil {
				return fmt.Errorf("%s: %w", rule.Rule, err)
			}
			for _, name := range names {
				l.add(name, rule)
			}
		}
	}
	return nil
}

func (m *mounter) addWrite(name string, rule policy.PathRule) {
	real, mode, err := m.r.real(name)
	if err != nil {
		m.note("%s: %s does not exist: nothing to write there", rule.Rule, name)
		return
	}
	m.addListed(point{name: name, real: real, dir: mode.IsDir()}, rule)
}

// addListed opens a path by name. The private directories stay private as a
// whole, and nothing of the host's processes is ever shown.
func (m *mounter) addListed(p point, rule policy.PathRule) {
	if private := privateOf(p.real); private != "" && (p.real == private || private == "/proc") {
		m.note("%s: %s is the sandbox's own", rule.Rule, p.name)
		return
	}
	p.listed = true
	m.add(p)
}

// addRead re-opens a path inside a hidden one, under its own name: a link does
// not re-open what it points to.
func (m *mounter) addRead(name string, rule policy.PathRule) {
	if target, dir, ok := m.r.link(name); ok {
		m.note("%s: %s is a symbolic link: its target is not re-opened", rule.Rule, name)
		m.add(point{name: name, real: path.Join(dir, path.Base(name)), listed: true, link: target})
		return
	}
	if real, mode, err := m.r.real(name); err == nil {
		m.addListed(point{name: name, real: real, dir: mode.IsDir()}, rule)
	}
}

func (m *mounter) addDeny(name string, rule policy.PathRule) {
	real, mode, err := m.r.real(name)
	if err != nil {
		m.addAbsent(name, rule)
		return
	}
	if real != name { // there is a link in it
		if _, dir, ok := m.r.link(name); ok && m.inside(dir) == ReadWrite {
			m.note("%s: %s is a symbolic link: its target is protected, the link itself is not", rule.Rule, name)
		}
	}
	m.add(point{name: name, real: real, dir: mode.IsDir()})
}

// addRuntimeDir makes $XDG_RUNTIME_DIR the sandbox's own, and gives it back if
// there can be one.
func (m *mounter) addRuntimeDir(dir string) string {
	if dir == "" || privateOf(dir) != "" {
		return dir
	}
	real, mode, err := m.r.real(dir)
	if err != nil || !mode.IsDir() || real == "/" {
		m.note("$XDG_RUNTIME_DIR: %s is no directory that could be replaced", dir)
		return ""
	}
	m.place(&point{name: dir, real: real, dir: true, access: Private})
	return dir
}

func (m *mounter) addCwd(cwd string) {
	if real, mode, err := m.r.real(cwd); err == nil && mode.IsDir() {
		m.add(point{name: cwd, real: real, dir: true, listed: true})
	}
}

// addHome makes $HOME a place to look for protected names in its own right
// where a write root stands above it.
func (m *mounter) addHome() {
	if real, mode, err := m.r.real(m.home); err == nil && mode.IsDir() && m.inside(m.home) == ReadWrite {
		m.add(point{name: m.home, real: real, dir: true, listed: true})
	}
}

// add records a point with the access that the policy gives its name.
func (m *mounter) add(p point) {
	p.access, p.rule = m.decide(p.name, p.dir)
	m.put(p)
}

// forbidWrite records a point that is never written, whatever the policy says
// of its name alone: that a directory is a bare repository, only a look tells.
func (m *mounter) forbidWrite(p point, rule policy.Rule) {
	p.access, p.rule = m.decide(p.name, p.dir)
	if p.access > ReadOnly {
		p.access, p.rule = ReadOnly, rule
	}
	m.put(p)
}

// put records a point; where two names lead to one place the stricter holds.
func (m *mounter) put(p point) {
	old, ok := m.points[p.real]
	if !ok {
		m.place(&p)
		return
	}
	if old.access == Private && p.access != Hidden {
		return
	}
	old.listed = old.listed || p.listed
	if p.access < old.access {
		old.access, old.rule, old.name = p.access, p.rule, p.name
	}
}

// place adds a point where there is none.
func (m *mounter) place(p *point) {
	m.points[p.real], m.list, m.sorted = p, append(m.list, p), false
}

// inside gives the access to what is made in a directory.
func (m *mounter) inside(dir string) Access {
	a, _ := m.decide(dir, true)
	return a
}

// decide asks the policy. To write a directory is to make something in it: a
// name such as .git protects no directory.
func (m *mounter) decide(name string, dir bool) (Access, policy.Rule) {
	if d := m.policy.FileRule(event.FileRead, name); !d.Allowed() {
		return Hidden, d.Rule
	}
	op := event.FileWrite
	if dir {
		op = event.FileCreate
	}
	d := m.policy.FileRule(op, name)
	if !d.Allowed() || d.Private() {
		return ReadOnly, d.Rule
	}
	return ReadWrite, d.Rule
}

func (m *mounter) writeRoots() []*point {
	return m.pick(func(p *point) bool { return p.access == ReadWrite && p.listed })
}

// pick gives some of the points, a directory directly before what is below it.
func (m *mounter) pick(want func(*point) bool) []*point {
	if !m.sorted {
		slices.SortFunc(m.list, func(a, b *point) int { return comparePaths(a.real, b.real) })
		m.sorted = true
	}
	var out []*point
	for _, p := range m.list {
		if want(p) {
			out = append(out, p)
		}
	}
	return out
}

// pinAncestors makes every directory between a protected path and its write
// root a mount point, so that no ancestor can be renamed away under it.
func (m *mounter) pinAncestors() {
	last := ""
	for _, p := range m.pick(func(p *point) bool { return p.access != ReadWrite }) {
		if parent(p.real) == last {
			continue // as its neighbour's
		}
		last = parent(p.real)
		for dir := last; dir != "/" && m.above(dir) == ReadWrite; dir = parent(dir) {
			if _, ok := m.points[dir]; !ok {
				m.place(&point{name: dir, real: dir, dir: true, access: ReadWrite, rule: p.rule})
			}
			m.points[dir].pin = true
		}
	}
}

// above gives the access that the nearest point above or at dir sets.
func (m *mounter) above(dir string) Access {
	for {
		if p, ok := m.points[dir]; ok {
			return p.access
		}
		if dir == "/" {
			return ReadOnly
		}
		if dir == privateOf(dir) {
			return Private
		}
		dir = path.Dir(dir)
	}
}

func (m *mounter) order() []Mount {
	points := m.pick(func(*point) bool { return true })
	out := make([]Mount, 0, len(points))
	index := map[string]int{} // of emitted directories, by path
	last, private, holder, access := "", "", -1, ReadOnly
	for _, p := range points {
		if dir, own := parent(p.real), privateOf(p.real); dir != last || own != private { // else as its neighbour
			last, private = dir, own
			holder, access = nearest(out, index, p.real)
		}
		if p.real == "/" {
			last = "" // nobody's neighbour, though their parent
		}
		if !p.wanted(access) {
			continue
		}
		if holder >= 0 && access == Hidden {
			out[holder].Open = true
		}
		if p.dir {
			index[p.real] = len(out)
		}
		out = append(out, Mount{Path: p.real, Access: p.access, Dir: p.dir, Pin: p.pin && p.access == access, Link: p.link, Rule: p.rule})
	}
	return out
}

// nearest finds the mount that holds p: its place in out (-1: none of them) and
// the access it gives.
func nearest(out []Mount, index map[string]int, p string) (int, Access) {
	private := privateOf(p)
	for dir := p; dir != "/"; {
		dir = parent(dir)
		if private != "" && !below(dir, private) {
			break // what is above does not reach into a private directory
		}
		if i, ok := index[dir]; ok {
			return i, out[i].Access
		}
	}
	if private != "" {
		return -1, Private
	}
	return -1, ReadOnly
}

// wanted reports whether a point changes anything against what is above it.
func (p *point) wanted(above Access) bool {
	switch {
	case p.link != "":
		return above == Hidden
	case above == Private, above == Hidden:
		return p.listed && p.access != Hidden
	default:
		return p.pin || p.access != above
	}
}

func (m *mounter) note(format string, args ...any) {
	m.notes = append(m.notes, fmt.Sprintf(format, args...))
}
