package policy

import (
	"path"
	"slices"
	"strings"
)

// ProtectedName is a path that must not be written, wherever it stands under a
// write root or $HOME: what is in it runs outside the sandbox later.
type ProtectedName struct {
	Path string // relative, for example ".git/hooks"
	Dir  bool   // covers everything below it, too; otherwise only what is no directory
	Glob bool
	Rule Rule // builtin:protected:PATH
}

var protectedFiles = []string{
	".gitconfig", ".gitmodules", ".bashrc", ".bash_profile", ".bash_login", ".zshrc",
	".zprofile", ".zshenv", ".zlogin", ".profile", ".ripgreprc", ".mcp.json", ".envrc",
	".sallyport.yaml", ".claude/settings*.json",
	".git", // a worktree's pointer to its repository
	".git/config", ".git/config.worktree", ".git/commondir", ".git/info/attributes",
	".git/objects/info/alternates", ".git/modules/**/config",
}

var protectedDirs = []string{
	".vscode", ".idea", ".claude/commands", ".claude/agents", ".git/hooks", ".git/modules/**/hooks",
}

// gitConfigNames are those that allowGitConfig opens.
var gitConfigNames = []string{".git/config", ".git/modules/**/config"}

// protectedNames lists the mandatory write denials.
func protectedNames(allowGitConfig bool) []ProtectedName {
	var names []ProtectedName
	add := func(list []string, dir bool) {
		for _, n := range list {
			if allowGitConfig && slices.Contains(gitConfigNames, n) {
				continue
			}
			names = append(names, ProtectedName{Path: n, Dir: dir, Glob: isPattern(n),
				Rule: builtin("protected:" + n)})
		}
	}
	add(protectedFiles, false)
	add(protectedDirs, true)
	return names
}

// nameMatcher is a ProtectedName that is ready to match.
type nameMatcher struct {
	ProtectedName
	glob    glob
	parents []glob // of the directories that lead to it
}

// nameMatchers are grouped by their first component, which is never a pattern.
type nameMatchers map[string][]nameMatcher

func newNameMatchers(names []ProtectedName) nameMatchers {
	ms := nameMatchers{}
	for _, n := range names {
		m := nameMatcher{ProtectedName: n, glob: compileGlob(n.Path)}
		for dir := path.Dir(n.Path); dir != "."; dir = path.Dir(dir) {
			if strings.HasSuffix(dir, "**") {
				dir = strings.TrimSuffix(dir, "*") // what is deeper is not told from content
			}
			m.parents = append(m.parents, compileGlob(dir))
		}
		first, _, _ := strings.Cut(n.Path, "/")
		ms[first] = append(ms[first], m)
	}
	return ms
}

// each calls use with every matcher whose first component stands in a path,
// and the path from there on, until use returns false.
func (ms nameMatchers) each(path string, use func(m nameMatcher, rest string) bool) {
	for rest := path; ; {
		i := strings.IndexByte(rest, '/')
		if i < 0 {
			return
		}
		rest = rest[i+1:]
		first, _, _ := strings.Cut(rest, "/")
		for _, m := range ms[first] {
			if !use(m, rest) {
				return
			}
		}
	}
}

// covers reports whether the name protects a path that starts where it does.
func (m nameMatcher) covers(rest string) bool {
	depth := m.glob.deepest(rest)
	return depth == len(rest) || m.Dir && depth >= 0
}

// holds reports whether moving a directory would move what is protected.
func (m nameMatcher) holds(rest string) bool {
	for _, g := range m.parents {
		if g.deepest(rest) == len(rest) {
			return true
		}
	}
	return false
}

// ownPaths lists what the sandbox must never write, because it decides or
// records what the sandbox does, and of these what it must not read either.
func ownPaths(env Env, files []*File) (protected, hidden []PathRule) {
	addTo := func(list *[]PathRule, p, rule string) {
		if p != "" {
			*list = append(*list, PathRule{Path: p, Final: list == &hidden, Rule: builtin(rule)})
		}
	}
	both := func(p, rule string) { addTo(&protected, p, rule); addTo(&hidden, p, rule) }
	both(env.StateDir, "own-state")
	both(env.ConfigDir, "own-policy")
	both("/var/lib/sallyport", "own-state")
	addTo(&protected, "/etc/sallyport", "own-policy")
	both("/run/sallyport", "own-sockets")
	if env.RuntimeDir != "" {
		both(path.Join(env.RuntimeDir, "sallyport"), "own-sockets")
	}
	if env.Home != "" {
		both(path.Join(env.Home, ".srt-settings.json"), "own-policy")
	}
	for _, f := range files {
		// Who writes the numbers could say that nothing was refused.
		if f.audit.Textfile != "" {
			addTo(&protected, path.Clean(f.audit.Textfile), "own-state")
		}
		if f.audit.Log != "" {
			both(path.Clean(f.audit.Log), "own-state")
		}
		add := both
		if f.layer != LayerOwn { // a repository's, and what everybody may read
			add = func(p, rule string) { addTo(&protected, p, rule) }
		}
		for _, p := range f.paths {
			if !strings.HasPrefix(p, "/") {
				p = path.Join(env.Cwd, p)
			}
			// A pipe of the shell's is gone before the sandbox is there.
			if p = path.Clean(p); !within(p, "/dev") && !within(p, "/proc") {
				add(p, "own-policy")
			}
		}
	}
	addTo(&protected, env.CacheDir, "own-cache")
	addTo(&protected, env.Exe, "own-binary")
	if env.Exe != "" { // which a run starts outside
		addTo(&protected, path.Join(path.Dir(env.Exe), "sallyport-agent"), "own-binary")
	}
	return protected, hidden
}
