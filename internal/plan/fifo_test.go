package plan

import (
	"io/fs"
	"testing"
	"testing/fstest"
)

// mapFS is a file system in memory, without symbolic links.
type mapFS struct{ fstest.MapFS }

func rel(p string) string {
	if p == "/" {
		return "."
	}
	return p[1:]
}

func (f mapFS) Lstat(p string) (fs.FileInfo, error)            { return f.MapFS.Stat(rel(p)) }
func (f mapFS) ReadDir(p string, _ int) ([]fs.DirEntry, error) { return f.MapFS.ReadDir(rel(p)) }
func (f mapFS) ReadLink(p string) (string, error)              { return "", fs.ErrInvalid }

func TestFIFOsOfTheHostAreHidden(t *testing.T) {
	pipe := &fstest.MapFile{Mode: fs.ModeNamedPipe | 0o600}
	host := mapFS{fstest.MapFS{
		"home/u/pipe": pipe, "home/u/a/b/c/pipe": pipe, "home/u/a/b/c/d/pipe": pipe, "home/u/work/pipe": pipe,
		"var/lib/x/pipe": pipe, "home/u/file": &fstest.MapFile{},
	}}
	m := &mounter{r: newResolver(host), home: "/home/u", points: map[string]*point{
		"/home/u/work": {real: "/home/u/work", access: ReadWrite, dir: true},
	}}
	m.hideFIFOs()
	for path, want := range map[string]bool{
		"/home/u/pipe": true, "/home/u/a/b/c/pipe": true, "/var/lib/x/pipe": true,
		"/home/u/a/b/c/d/pipe": false, // too deep
		"/home/u/work/pipe":    false, // the payload's own
		"/home/u/file":         false,
	} {
		p, ok := m.points[path]
		if (ok && p.access == Hidden) != want {
			t.Errorf("%s hidden: %v, want %v", path, ok, want)
		}
	}
}
