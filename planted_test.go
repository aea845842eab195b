package sallyport

import (
	"errors"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
)

const clonedConfig = `[core]
	repositoryformatversion = 0
	filemode = true
	bare = false
	logallrefupdates = true
[remote "origin"]
	url = https://example.com:8443/a/b.git
	fetch = +refs/heads/*:refs/remotes/origin/*
[branch "feature/x"]
	remote = origin
	merge = refs/heads/feature/x
[user]
	name = A Person
	email = a@example.com
`

func TestOnlyWhatGitItselfWritesIsInert(t *testing.T) {
	for name, test := range map[string]struct {
		config string
		want   bool
	}{
		"empty":                  {"", true},
		"clone":                  {clonedConfig, true},
		"scp-like":               {"[remote \"origin\"]\n\turl = git@example.com:a/b.git\n", true},
		"program":                {"[core]\n\tfsmonitor = /tmp/evil\n", false},
		"hooks elsewhere":        {"[core]\n\thooksPath = x\n", false},
		"pager":                  {"[core]\n\tpager = evil\n", false},
		"include":                {"[include]\n\tpath = evil\n", false},
		"conditional include":    {"[includeIf \"gitdir:/\"]\n\tpath = evil\n", false},
		"alias":                  {"[alias]\n\tst = !evil\n", false},
		"filter":                 {"[filter \"x\"]\n\tclean = evil\n", false},
		"diff":                   {"[diff]\n\texternal = evil\n", false},
		"remote helper":          {"[remote \"origin\"]\n\turl = ext::sh -c evil\n", false},
		"local remote":           {"[remote \"origin\"]\n\turl = /work/evil.git\n", false},
		"relative remote":        {"[remote \"origin\"]\n\turl = ../evil.git\n", false},
		"file remote":            {"[remote \"origin\"]\n\turl = file:///work/evil.git\n", false},
		"option as host":         {"[remote \"origin\"]\n\turl = ssh://-oProxyCommand=evil/x\n", false},
		"branch of a path":       {"[branch \"main\"]\n\tremote = ../evil\n", false},
		"upload-pack":            {"[remote \"origin\"]\n\tuploadpack = evil\n", false},
		"section on one line":    {"[core] fsmonitor = evil\n", false},
		"continued line":         {"[user]\n\tname = a\\\n\temail = b\n", false},
		"no section":             {"\tfsmonitor = evil\n", false},
		"old subsection form":    {"[remote.origin]\n\turl = https://example.com/x\n", false},
		"quoted":                 {"[user]\n\tname = \"a\n", false},
		"carriage return":        {"[core]\r\n\tfsmonitor = evil\n", false},
		"no end of line":         {"[core]", false},
		"extension for worktree": {"[extensions]\n\tworktreeConfig = true\n", false},
		"other worktree":         {"[core]\n\tworktree = /home/me\n", false},
	} {
		if got := inertConfig(test.config); got != test.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// looking is a tree in memory.
type looking struct{ fstest.MapFS }

func (l looking) ReadFile(name string) ([]byte, error) { return l.MapFS.ReadFile(name[1:]) }
func (l looking) IsFile(name string) bool {
	fi, err := l.Lstat(name[1:])
	return err == nil && fi.Mode().IsRegular()
}
func (l looking) IsDir(name string) bool {
	fi, err := l.Lstat(name[1:])
	return err == nil && fi.IsDir()
}
func (l looking) Names(name string) (out []string, err error) {
	if !l.IsDir(name) {
		return nil, errors.New("no directory")
	}
	entries, err := l.ReadDir(name[1:])
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return out, err
}

func TestInertPaths(t *testing.T) {
	file := func(s string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(s)} }
	worktree := fstest.MapFS{
		"w/tree/.git":                            file("gitdir: /w/.git/worktrees/tree\n"),
		"w/.git/worktrees/tree/commondir":        file("../..\n"),
		"w/.git/worktrees/tree/HEAD":             file("ref: refs/heads/x\n"),
		"w/evil/.git":                            file("gitdir: /w/evil/dir\n"),
		"w/evil/dir/commondir":                   file("../..\n"),
		"w/other/.git":                           file("gitdir: /w/.git/worktrees/other\n"),
		"w/.git/worktrees/other/commondir":       file("/tmp/evil\n"),
		"w/third/.git":                           file("gitdir: /w/.git/worktrees/third\n"),
		"w/.git/worktrees/third/commondir":       file("../..\n"),
		"w/.git/worktrees/third/config.worktree": file(""),
		"w/relative/.git":                        file("gitdir: ../.git/worktrees/tree\n"),
		"w/new/.git/config":                      file(clonedConfig),
		"w/new/.git/hooks/pre-push.sample":       file("#!/bin/sh\n"),
		"w/new/.git/worktrees/x/commondir":       file("../..\n"),
		"w/newtree/.git":                         file("gitdir: /w/new/.git/worktrees/x\n"),
		"w/bad/.git/config":                      file("[core]\n\tpager = evil\n"),
		"w/bad/.git/hooks/pre-push":              file("#!/bin/sh\n"),
		"w/.envrc":                               file(""),
		"w/link/.git/config":                     {Data: []byte("/etc/passwd"), Mode: os.ModeSymlink},
	}
	for name, want := range map[string]bool{
		"/w/tree/.git": true, "/w/evil/.git": false, "/w/other/.git": false, "/w/third/.git": false, "/w/relative/.git": false,
		"/w/newtree/.git": false, "/w/new/.git/config": true, "/w/new/.git/hooks": true,
		"/w/bad/.git/config": false, "/w/bad/.git/hooks": false, "/w/.envrc": false, "/w/link/.git/config": false, "/w/absent/.git": false,
	} {
		if got := isInert(looking{worktree}, name, func(dir string) bool { return dir == "/w/.git" }); got != want {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
}

// FuzzInertConfig has git read what is taken for inert: it must find nothing
// but what was meant.
func FuzzInertConfig(f *testing.F) {
	for _, s := range []string{"", clonedConfig, "[core]\n\tbare = false\n", "[user]\n\tname =  x \n", "[branch \"a\"]\n\tremote = .\n",
		"[remote \"o\"]\n\turl = git@h:x\n", "[core]\n\tbare = a\\\n", "[core]\n\tbare = ;\n[include]\n\tpath = x\n"} {
		f.Add(s)
	}
	git, err := exec.LookPath("git")
	if err != nil {
		f.Skip("git is not installed")
	}
	f.Fuzz(func(t *testing.T, text string) {
		if !inertConfig(text) {
			return
		}
		name := filepath.Join(t.TempDir(), "config")
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command(git, "config", "--file", name, "--list", "--name-only", "-z", "--includes").Output()
		if err != nil {
			return // git would not use it either
		}
		for key := range strings.SplitSeq(strings.TrimSuffix(string(out), "\x00"), "\x00") {
			section, _, _ := strings.Cut(key, ".")
			if key != "" && !inertSettings[section][path.Ext(key)[1:]] {
				t.Errorf("%q: git finds %s", text, key)
			}
		}
	})
}
