package plan

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/sallyport/sallyport/internal/policy"
)

// FileKind says what a FileRule does to the names it covers. The zero value is no
// rule.
type FileKind uint8

const (
	FileNothing  FileKind = iota
	FileHide              // not read, nor written
	FileShow              // read again, inside what is hidden
	FileSeal              // not read, whatever shows it
	FileProtect           // not written
	FileRoot              // the protected names count from here on
	FilePrivate           // the sandbox's own: what is said of the paths above does not reach in
	FileName              // a protected name: itself alone
	FileNameDir           // and everything below it
	FileNameHold          // not moved: it holds a protected name
	FileGitFile           // .git, where it is no directory
	fileKinds
)

func (k FileKind) String() string {
	return [...]string{"nothing", "hide", "show", "seal", "protect", "root", "private", "name", "name, all below", "name, not moved",
		"name of no directory"}[k]
}

// FileRule is a rule about names, whether anything has that name or not.
type FileRule struct {
	Kind FileKind
	Path string // absolute; of a protected name relative
	Glob bool
	Fold bool // upper case is lower case
	Rule policy.Rule
}

// FileRules are what a kernel that decides by name is told of a policy: what
// mounts cannot express, and what they do, once more, for files that the host
// replaces.
type FileRules struct {
	Rules []FileRule
	// Bare: no directory may come to hold HEAD, objects and refs.
	Bare bool
}

// KernelFiles lists the rules of a policy by name. dirs are those of a sandbox's
// own beside the ones that every sandbox has; roots where the protected names
// count, beside what may be written.
//
// Links are followed as they are now, if there is somebody to ask: rules hold
// under both names.
func KernelFiles(rules policy.FileRules, fsys FS, home string, dirs ...string) FileRules {
	dirs = slices.DeleteFunc(dirs, func(d string) bool { return d == "" || d == "/" })
	k := &kernelFiles{private: slices.Concat(privateDirs, dirs), seen: map[FileRule]bool{}}
	if fsys != nil {
		k.r = newResolver(fsys)
	}
	k.open(rules.AllowWrite, rules.AllowRead)
	for _, n := range rules.Protected { // first: there is room for all of them
		k.name(n)
	}
	k.out.Bare = len(rules.Protected) > 0
	for _, d := range k.private {
		k.add(FileRule{Kind: FilePrivate, Path: d})
	}
	for _, r := range rules.AllowWrite {
		k.path(FileRoot, r)
	}
	if len(rules.Protected) > 0 && home != "" {
		k.path(FileRoot, policy.PathRule{Path: home})
	}
	for _, r := range rules.DenyRead {
		if r.Final {
			k.path(FileSeal, r)
		} else {
			k.path(FileHide, r)
		}
	}
	for _, r := range rules.AllowRead {
		k.path(FileShow, r)
	}
	for _, r := range slices.Concat(rules.DenyWrite, rules.ProtectedPaths) {
		k.path(FileProtect, r)
	}
	return k.out
}

// WithoutGit leaves out the protected names that are git's own. Where a repository
// is, mounts hold them, and KeepAbsent; one that is made inside, git has to be let
// make ('git clone'), and what was made is looked at when the run ends.
func WithoutGit(rules policy.FileRules) policy.FileRules {
	rules.Protected = slices.DeleteFunc(slices.Clone(rules.Protected), func(n policy.ProtectedName) bool {
		return n.Path == ".git" || strings.HasPrefix(n.Path, ".git/")
	})
	return rules
}

// lines shows the rules: stable, one a line.
func (f FileRules) lines() (out []string) {
	for _, r := range f.Rules {
		line := fmt.Sprintf("%-16s %s", r.Kind, r.Path)
		if r.Rule != (policy.Rule{}) {
			line += " (" + r.Rule.String() + ")"
		}
		out = append(out, line)
	}
	if f.Bare {
		out = append(out, "HEAD, objects and refs beside each other")
	}
	return out
}

type kernelFiles struct {
	r       *resolver // nil: nobody knows the files
	private []string
	opened  []string // what of the host is shown in private directories
	seen    map[FileRule]bool
	out     FileRules
}

func (k *kernelFiles) add(r FileRule) {
	key := r
	key.Rule = policy.Rule{}
	if !k.seen[key] {
		k.seen[key] = true
		k.out.Rules = append(k.out.Rules, r)
	}
}

// open notes what of the host a policy opens by name.
func (k *kernelFiles) open(lists ...[]policy.PathRule) {
	for _, r := range slices.Concat(lists...) {
		if !r.Glob {
			k.opened = append(k.opened, k.names(r.Path)...)
		}
	}
}

// names gives a path's spellings: the policy's, and where it leads.
func (k *kernelFiles) names(p string) []string {
	if k.r == nil {
		return []string{p}
	}
	if real, _, _ := k.r.real(p); real != p && path.IsAbs(real) {
		return []string{p, real}
	}
	return []string{p}
}

// path adds a rule for a path of the host's. What is in a private directory is
// not the host's, unless it was opened.
func (k *kernelFiles) path(kind FileKind, r policy.PathRule) {
	if kind == FileShow && !r.Glob && k.r != nil {
		if _, _, link := k.r.link(r.Path); link {
			k.add(FileRule{Kind: kind, Path: r.Path, Rule: r.Rule}) // its target is not re-opened
			return
		}
	}
	fixed, rest := r.Path, ""
	if r.Glob {
		fixed, rest = fixedPart(r.Path)
	}
	for _, p := range k.names(fixed) {
		if k.own(p) {
			continue
		}
		k.add(FileRule{Kind: kind, Path: path.Join(p, rest), Glob: r.Glob, Rule: r.Rule})
	}
}

// own reports whether nothing of the host's can have this name.
func (k *kernelFiles) own(p string) bool {
	private := ""
	for _, d := range k.private {
		if below(p, d) && len(d) > len(private) {
			private = d
		}
	}
	return private != "" && !slices.ContainsFunc(k.opened, func(o string) bool {
		return o != private && below(o, private) && below(p, o)
	})
}

// fixedPart cuts a pattern into the directories that have no wildcard, and the
// rest. What looks like one stays a pattern.
func fixedPart(pattern string) (dir, rest string) {
	i := strings.IndexAny(pattern, "*?[")
	if i < 0 {
		return pattern, ""
	}
	i = strings.LastIndexByte(pattern[:i], '/')
	return path.Clean(pattern[:i] + "/"), pattern[i+1:]
}

// name adds a protected name, and what may not be moved because of it.
func (k *kernelFiles) name(n policy.ProtectedName) {
	kind := FileName
	switch {
	case n.Dir:
		kind = FileNameDir
	case n.Path == ".git":
		kind = FileGitFile
	}
	k.add(FileRule{Kind: kind, Path: n.Path, Glob: n.Glob, Fold: true, Rule: n.Rule})
	if before, _, ok := strings.Cut(n.Path, "/**/"); ok { // what is deeper is not told from content
		k.add(FileRule{Kind: FileNameHold, Path: before + "/*", Glob: true, Fold: true, Rule: n.Rule})
	}
}
