package plan

import (
	"io/fs"
	"path"
	"sort"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/policy"
)

// tree is a file system made of lines: "dir/", "socket=", "file",
// "link -> target".
// Parents are made as needed.
type tree map[string]node

type node struct {
	name   string
	kind   fs.FileMode
	target string
}

func (n node) Name() string               { return n.name }
func (n node) Size() int64                { return 0 }
func (n node) Mode() fs.FileMode          { return n.kind | 0o755 }
func (n node) Type() fs.FileMode          { return n.kind }
func (n node) ModTime() time.Time         { return time.Time{} }
func (n node) IsDir() bool                { return n.kind == fs.ModeDir }
func (n node) Sys() any                   { return nil }
func (n node) Info() (fs.FileInfo, error) { return n, nil }

func newTree(text string) tree {
	t := tree{"/": {"/", fs.ModeDir, ""}}
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" {
			t.add(line)
		}
	}
	return t
}

func (t tree) add(line string) {
	p, target, isLink := strings.Cut(line, " -> ")
	n := node{kind: 0, target: target}
	switch {
	case isLink:
		n.kind = fs.ModeSymlink
	case strings.HasSuffix(p, "/"):
		n.kind = fs.ModeDir
	case strings.HasSuffix(p, "="):
		n.kind, p = fs.ModeSocket, strings.TrimSuffix(p, "=")
	}
	p = path.Clean(p)
	for dir := path.Dir(p); dir != "/"; dir = path.Dir(dir) {
		if _, ok := t[dir]; !ok {
			t[dir] = node{path.Base(dir), fs.ModeDir, ""}
		}
	}
	n.name = path.Base(p)
	t[p] = n
}

func (t tree) Lstat(name string) (fs.FileInfo, error) {
	for dir := path.Dir(name); dir != "/"; dir = path.Dir(dir) {
		if n, ok := t[dir]; ok && !n.IsDir() {
			return nil, &fs.PathError{Op: "lstat", Path: name, Err: errNotDir}
		}
	}
	n, ok := t[name]
	if !ok {
		return nil, &fs.PathError{Op: "lstat", Path: name, Err: fs.ErrNotExist}
	}
	return n, nil
}

var errNotDir = fs.ErrInvalid

func (t tree) ReadDir(name string, most int) ([]fs.DirEntry, error) {
	if n, ok := t[name]; !ok || !n.IsDir() {
		return nil, &fs.PathError{Op: "readdir", Path: name, Err: fs.ErrNotExist}
	}
	var out []fs.DirEntry
	for _, p := range t.paths() {
		if p != "/" && path.Dir(p) == name {
			out = append(out, t[p])
		}
	}
	if len(out) > most {
		return nil, ErrMany
	}
	return out, nil
}

func (t tree) ReadLink(name string) (string, error) {
	if n := t[name]; n.kind == fs.ModeSymlink {
		return n.target, nil
	}
	return "", &fs.PathError{Op: "readlink", Path: name, Err: fs.ErrInvalid}
}

// paths lists every path, sorted.
func (t tree) paths() []string {
	var out []string
	for p := range t {
		out = append(out, p)
	}
	sort.Strings(out)
	return out
}

// The user of every test here.
var testEnv = policy.Env{
	Home: "/home/u", Cwd: "/home/u/w", Exe: "/usr/bin/sallyport", ConfigDir: "/home/u/.config/sallyport",
	StateDir: "/home/u/.local/state/sallyport", CacheDir: "/home/u/.cache/sallyport", RuntimeDir: "/run/user/7",
}

var testCaps = Capabilities{Bwrap: "/usr/bin/bwrap", Perms: true, DisableUserns: true, LandlockABI: 5, CopySockets: true}

func testPolicy(t testing.TB, env policy.Env, text string) *policy.Policy {
	t.Helper()
	var files []*policy.File
	if text != "" {
		f, err := policy.Parse(policy.Source{Name: "/etc/p.yaml", Data: []byte(text)})
		if err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		files = append(files, f)
	}
	p, err := policy.New(env, files...)
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return p
}

// testInput plans "true" in the test user's working directory.
func testInput(t testing.TB, fsys FS, text string) Input {
	t.Helper()
	return Input{
		Policy: testPolicy(t, testEnv, text), Caps: testCaps, FS: fsys, Argv: []string{"true"},
		Cwd: testEnv.Cwd, Home: testEnv.Home, RuntimeDir: testEnv.RuntimeDir, Exe: testEnv.Exe,
	}
}

func mustMake(t testing.TB, in Input) *Plan {
	t.Helper()
	p, err := Make(in)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// accessAt is what a list of mounts gives at a path, as the kernel would have
// it: the last mount on the way there decides.
func accessAt(mounts []Mount, p string) Access {
	access := ReadOnly
	for _, d := range privateDirs {
		if below(p, d) {
			access = Private
		}
	}
	var at string
	for _, m := range mounts {
		if below(p, m.Path) && len(m.Path) >= len(at) {
			if access == Private && below(privateOf(p), m.Path) && privateOf(p) != m.Path {
				continue // a mount above a private directory does not reach into it
			}
			at, access = m.Path, m.Access
			if m.Link != "" {
				access = ReadOnly
			}
		}
	}
	return access
}
