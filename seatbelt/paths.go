package seatbelt

import (
	"errors"
	"io/fs"
	"math"
	"os"
	"path"
	"strings"
	"time"

	"github.com/sallyport/sallyport/internal/plan"
)

// resolver finds the one name that the kernel matches a file by: no links, the
// case that is on disk, and the short form of /Users. It asks an FS, so that a
// profile for macOS can be made and tested anywhere.
type resolver struct{ fs plan.FS }

// maxLinks is macOS's (MAXSYMLINKS, sys/param.h).
const maxLinks = 32

var errLinks = errors.New("too many levels of symbolic links")

// place is where a path leads.
type place struct {
	path string
	// exists is how much of path does, as a path of its own: all of it, or the
	// nearest ancestor.
	exists string
}

func (p place) missing() bool { return p.path != p.exists }

// real follows every link in p, a final one too.
func (r resolver) real(p string) (place, error) {
	at, rest := "/", components(p)
	for links := 0; len(rest) > 0; {
		name := r.spelling(at, rest[0])
		next := path.Join(at, name)
		info, err := r.fs.Lstat(next)
		if err != nil { // missing, or not ours to look at: taken as it is written
			return place{shortForm(path.Join(append([]string{at}, rest...)...)), shortForm(at)}, nil
		}
		if info.Mode()&fs.ModeSymlink == 0 {
			at, rest = next, rest[1:]
			continue
		}
		if links++; links > maxLinks {
			return place{}, &fs.PathError{Op: "resolve", Path: p, Err: errLinks}
		}
		target, err := r.fs.ReadLink(next)
		if err != nil {
			return place{}, &fs.PathError{Op: "resolve", Path: p, Err: err}
		}
		if path.IsAbs(target) {
			at = "/"
		}
		at, rest = climb(at, append(components(target), rest[1:]...))
	}
	return place{shortForm(at), shortForm(at)}, nil
}

// named follows the links on the way to p, and leaves p itself as it is.
func (r resolver) named(p string) (place, error) {
	if p == "/" {
		return place{"/", "/"}, nil
	}
	dir, err := r.real(path.Dir(p))
	if err != nil {
		return place{}, err
	}
	name := path.Base(p)
	if !dir.missing() {
		name = r.spelling(dir.path, name)
	}
	full := path.Join(dir.path, name)
	if _, err := r.fs.Lstat(full); err == nil && !dir.missing() {
		return place{full, full}, nil
	}
	return place{full, dir.exists}, nil
}

// climb takes leading "." and ".." off, which only links bring in.
func climb(at string, rest []string) (string, []string) {
	for len(rest) > 0 {
		switch rest[0] {
		case ".":
		case "..":
			at = path.Dir(at)
		default:
			return at, rest
		}
		rest = rest[1:]
	}
	return at, rest
}

// spelling gives a name the case it has on disk, where a file is found by
// another one (APFS and HFS+ as they come).
func (r resolver) spelling(dir, name string) string {
	info, err := r.fs.Lstat(path.Join(dir, name))
	if err != nil {
		return name
	}
	entries, err := r.fs.ReadDir(dir, math.MaxInt)
	if err != nil {
		return name
	}
	other := name
	for _, e := range entries {
		if e.Name() == name {
			return name
		}
		if strings.EqualFold(e.Name(), name) || !isASCII(name) && r.same(info, path.Join(dir, e.Name())) {
			other = e.Name()
		}
	}
	return other
}

// same tells names apart that differ in how Unicode is composed.
func (r resolver) same(info fs.FileInfo, p string) bool {
	got, err := r.fs.Lstat(p)
	return err == nil && os.SameFile(info, got)
}

// dataVolume is where the writable part of a system lives; firmlinks show its
// directories at the root, and the kernel logs and matches them there.
const dataVolume = "/System/Volumes/Data"

func shortForm(p string) string {
	if rest, ok := strings.CutPrefix(p, dataVolume+"/"); ok {
		return "/" + rest
	}
	return p
}

func components(p string) []string {
	var out []string
	for c := range strings.SplitSeq(p, "/") {
		if c != "" {
			out = append(out, c)
		}
	}
	return out
}

// within reports whether p is dir or below it; both absolute and clean.
func within(p, dir string) bool {
	return p == dir || dir == "/" || strings.HasPrefix(p, dir+"/")
}

// overlap reports whether one of two directories holds the other.
func overlap(a, b string) bool { return within(a, b) || within(b, a) }

func isASCII(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}

// NominalRoot is a macOS of which nothing is known but where /tmp, /var and
// /etc lead, and that some directories exist: what a profile is made with on
// another system.
type NominalRoot struct{ Dirs []string }

var nominalLinks = map[string]string{"/tmp": "private/tmp", "/var": "private/var", "/etc": "private/etc"}

func (n NominalRoot) Lstat(name string) (fs.FileInfo, error) {
	if _, ok := nominalLinks[name]; ok {
		return nominalInfo{fs.ModeSymlink}, nil
	}
	for _, dir := range append(n.Dirs, "/private/tmp", "/private/var", "/private/etc") {
		if within(dir, name) {
			return nominalInfo{fs.ModeDir}, nil
		}
	}
	return nil, &fs.PathError{Op: "lstat", Path: name, Err: fs.ErrNotExist}
}

func (NominalRoot) ReadLink(name string) (string, error) {
	if to, ok := nominalLinks[name]; ok {
		return to, nil
	}
	return "", &fs.PathError{Op: "readlink", Path: name, Err: fs.ErrInvalid}
}

func (NominalRoot) ReadDir(name string, _ int) ([]fs.DirEntry, error) {
	return nil, &fs.PathError{Op: "readdir", Path: name, Err: fs.ErrPermission}
}

// nominalInfo knows a file's type only.
type nominalInfo struct{ mode fs.FileMode }

func (i nominalInfo) Name() string       { return "" }
func (i nominalInfo) Size() int64        { return 0 }
func (i nominalInfo) Mode() fs.FileMode  { return i.mode }
func (i nominalInfo) ModTime() time.Time { return time.Time{} }
func (i nominalInfo) IsDir() bool        { return i.mode.IsDir() }
func (i nominalInfo) Sys() any           { return nil }
