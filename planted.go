package sallyport

import (
	"path"
	"regexp"
	"strings"
	"sync"
)

// looker reads what is left of a run's files.
type looker interface {
	ReadFile(name string) ([]byte, error)
	// Names lists a directory; a link is none.
	Names(name string) ([]string, error)
	IsFile(name string) bool
	IsDir(name string) bool
}

// isInert reports whether a new protected path is what git itself makes in a
// new repository, clone or worktree, and can make no program run: it is
// reported like all others, and left where it is. old reports whether a
// directory was a repository before the run.
func isInert(look looker, name string, old func(gitDir string) bool) bool {
	switch path.Base(name) {
	case "config":
		b, err := look.ReadFile(name)
		return err == nil && look.IsFile(name) && inertConfig(string(b))
	case "hooks":
		return look.IsDir(name) && onlySamples(look, name)
	case ".git":
		return look.IsFile(name) && inertPointer(look, name, old)
	}
	return false
}

// onlySamples: git runs no hook whose name ends in .sample (githooks(5)).
func onlySamples(look looker, dir string) bool {
	names, err := look.Names(dir)
	for _, n := range names {
		if !strings.HasSuffix(n, ".sample") || !look.IsFile(path.Join(dir, n)) {
			return false
		}
	}
	return err == nil
}

// inertPointer: the .git file of a worktree that belongs to a repository which
// was there before, and whose configuration is that one's
// (gitrepository-layout(5)).
func inertPointer(look looker, name string, old func(string) bool) bool {
	b, err := look.ReadFile(name)
	dir, ok := strings.CutPrefix(strings.TrimSuffix(string(b), "\n"), "gitdir: ")
	if err != nil || !ok || dir != path.Clean(dir) || !path.IsAbs(dir) {
		return false
	}
	worktrees := path.Dir(dir)
	if path.Base(worktrees) != "worktrees" || !old(path.Dir(worktrees)) || !look.IsDir(dir) {
		return false
	}
	common, err := look.ReadFile(path.Join(dir, "commondir"))
	names, namesErr := look.Names(dir)
	for _, n := range names {
		if n == "config.worktree" || n == "config" || n == "hooks" {
			return false
		}
	}
	return err == nil && namesErr == nil && look.IsFile(path.Join(dir, "commondir")) && string(common) == "../..\n"
}

var (
	sectionLine = lazily(`^\[(core|user|init|extensions)\]$|^\[(remote|branch|submodule) "[A-Za-z0-9._/-]+"\]$`)
	settingLine = lazily(`^\t([A-Za-z]+) = ([^"\\#;\x00-\x1f\x7f-\xff]*)$`)
	remoteURL   = lazily(`^(https?|ssh|git)://[A-Za-z0-9][^: ]*(:[0-9]+(/[^: ]*)?)?$|^[A-Za-z0-9_.]+@[A-Za-z0-9][A-Za-z0-9.-]*:[A-Za-z0-9/~][^: ]*$`)
	plainName   = lazily(`^[A-Za-z0-9.][A-Za-z0-9._-]*$`)
)

// lazily compiles an expression when it is needed: every stage of every run would
// pay for it.
func lazily(expr string) func() *regexp.Regexp {
	return sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(expr) })
}

// inertSettings are those that "git init", "git clone" and "git branch" write.
// None names a program, a file, or a repository on this machine.
var inertSettings = map[string]map[string]bool{
	"core": {"repositoryformatversion": true, "filemode": true, "bare": true, "logallrefupdates": true,
		"ignorecase": true, "precomposeunicode": true, "symlinks": true},
	"user":       {"name": true, "email": true},
	"init":       {"defaultbranch": true},
	"extensions": {"objectformat": true, "refstorage": true},
	"remote":     {"url": true, "fetch": true},
	"branch":     {"remote": true, "merge": true},
	"submodule":  {"url": true, "active": true},
}

const maxInertConfig = 64 << 10

// inertConfig takes only what git writes by itself, in the form in which it
// does: what it would have to interpret, it might interpret otherwise.
func inertConfig(text string) bool {
	if len(text) > maxInertConfig || text != "" && !strings.HasSuffix(text, "\n") {
		return false
	}
	section := ""
	for _, line := range strings.Split(strings.TrimSuffix(text, "\n"), "\n") {
		if text == "" {
			break
		}
		if m := sectionLine().FindStringSubmatch(line); m != nil {
			section = m[1] + m[2]
			continue
		}
		m := settingLine().FindStringSubmatch(line)
		if m == nil {
			return false
		}
		key, value := strings.ToLower(m[1]), m[2]
		if !inertSettings[section][key] {
			return false
		}
		if key == "url" && !remoteURL().MatchString(value) || key == "remote" && !plainName().MatchString(value) {
			return false
		}
	}
	return true
}
