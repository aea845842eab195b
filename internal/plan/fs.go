package plan

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"

	"github.com/sallyport/sallyport/internal/policy"
)

// FS is the part of a file system that a plan looks at. Names are absolute.
// Lstat and ReadLink do not follow a final symbolic link.
type FS interface {
	Lstat(name string) (fs.FileInfo, error)
	// ReadDir gives a directory's entries in any order, and an ErrMany rather
	// than more than so many.
	ReadDir(name string, most int) ([]fs.DirEntry, error)
	ReadLink(name string) (string, error)
}

// ErrMany says that a directory has more entries than were asked for.
var ErrMany = errors.New("too many directory entries")

// maxLinks is how many symbolic links one look-up may cross, as in the kernel
// (MAXSYMLINKS, path_resolution(7)).
const maxLinks = 40

var errLoop = errors.New("too many levels of symbolic links")

// resolver follows symbolic links over an FS and remembers what it saw. Of a
// file it tells the type alone.
type resolver struct {
	fs     FS
	kinds  map[string]kind
	reals  map[string]real
	crowds map[string]*crowd
}

// real is where a path leads.
type real struct {
	path string
	kind
}

type kind struct {
	mode fs.FileMode
	err  error
}

func newResolver(f FS) *resolver {
	return &resolver{fs: f, kinds: map[string]kind{}, reals: map[string]real{}, crowds: map[string]*crowd{}}
}

func (r *resolver) lstat(p string) (fs.FileMode, error) {
	if k, ok := r.kinds[p]; ok {
		return k.mode, k.err
	}
	c := r.crowds[parent(p)]
	if c != nil {
		if mode, ok := c.names[p[strings.LastIndexByte(p, '/')+1:]]; ok {
			return mode, nil
		}
	}
	var k kind
	fi, err := r.fs.Lstat(p)
	if k.err = err; err == nil {
		k.mode = fi.Mode().Type()
	}
	r.kinds[p] = k
	if c != nil && (err == nil || errors.Is(err, fs.ErrNotExist)) {
		r.gather(parent(p), c)
	}
	return k.mode, k.err
}

// real follows every link in p, the last component's too. Where a component
// does not exist it returns the path as far as it could be followed with the
// rest appended, and fs.ErrNotExist.
//
// Most paths of a policy share their directories, which are followed once.
func (r *resolver) real(p string) (string, fs.FileMode, error) {
	return r.realOf(path.Clean(p))
}

func (r *resolver) realOf(p string) (string, fs.FileMode, error) {
	if known, ok := r.reals[p]; ok {
		return known.path, known.mode, known.err
	}
	at, mode, err := r.follow(p)
	if c := r.crowds[parent(p)]; c == nil || c.names == nil {
		r.reals[p] = real{at, kind{mode, err}}
	}
	return at, mode, err
}

// follow follows the directories first; only a link needs the whole walk.
func (r *resolver) follow(p string) (string, fs.FileMode, error) {
	if p == "/" {
		return r.walk(p)
	}
	dir, _, err := r.realOf(parent(p))
	switch {
	case err == nil:
	case errors.Is(err, fs.ErrNotExist):
		return path.Join(dir, path.Base(p)), 0, err
	default:
		return r.walk(p)
	}
	next := p
	if dir != parent(p) {
		next = path.Join(dir, path.Base(p))
	}
	mode, err := r.lstat(next)
	if err == nil && mode&fs.ModeSymlink != 0 {
		return r.walk(p)
	}
	return next, mode, err
}

// walk follows a path from the root, component by component.
func (r *resolver) walk(p string) (string, fs.FileMode, error) {
	rest := strings.Split(strings.Trim(path.Clean(p), "/"), "/")
	cur := "/"
	mode, err := r.lstat("/")
	for links := 0; len(rest) > 0 && rest[0] != ""; {
		next := path.Join(cur, rest[0])
		if mode, err = r.lstat(next); err != nil {
			return path.Join(append([]string{cur}, rest...)...), 0, err
		}
		if mode&fs.ModeSymlink == 0 {
			cur, rest = next, rest[1:]
			continue
		}
		if links++; links > maxLinks {
			return next, 0, fmt.Errorf("resolve %s: %w", p, errLoop)
		}
		target, err := r.fs.ReadLink(next)
		if err != nil {
			return next, 0, fmt.Errorf("resolve %s: %w", p, err)
		}
		if path.IsAbs(target) {
			cur = "/"
		}
		// Joined, not cleaned first: "a/../b" must follow a if a is a link.
		rest = append(strings.Split(strings.Trim(target, "/"), "/"), rest[1:]...)
		rest, cur = dropDots(rest, cur)
	}
	return cur, mode, err
}

// dropDots resolves leading "." and ".." components against cur, which holds no
// link any more.
func dropDots(rest []string, cur string) ([]string, string) {
	for len(rest) > 0 {
		switch rest[0] {
		case "", ".":
		case "..":
			cur = path.Dir(cur)
		default:
			return rest, cur
		}
		rest = rest[1:]
	}
	return rest, cur
}

// link gives the target of the symbolic link that p is, and the resolved
// directory it stands in.
func (r *resolver) link(p string) (target, dir string, ok bool) {
	dir, _, err := r.real(path.Dir(p))
	if err != nil {
		return "", "", false
	}
	full := path.Join(dir, path.Base(p))
	if mode, err := r.lstat(full); err != nil || mode&fs.ModeSymlink == 0 {
		return "", "", false
	}
	target, err = r.fs.ReadLink(full)
	return target, dir, err == nil
}

// maxExpand bounds how many directory entries one pattern may visit, so that a
// pattern such as /**/x cannot stall a start.
const maxExpand = 200_000

// expand lists the existing paths a rule names, under the rule's own spelling.
// A rule without a glob gives its path whether it exists or not.
func (r *resolver) expand(rule policy.PathRule) ([]string, error) {
	if !rule.Glob {
		return []string{rule.Path}, nil
	}
	parts := strings.Split(strings.Trim(rule.Path, "/"), "/")
	e := expander{r: r, pattern: rule.Path, left: maxExpand}
	e.walk("/", parts)
	return e.found, e.err
}

type expander struct {
	r       *resolver
	pattern string
	found   []string
	left    int
	err     error
}

func (e *expander) walk(dir string, parts []string) {
	if e.err != nil || len(parts) == 0 {
		return
	}
	if !strings.ContainsAny(parts[0], "*?[") {
		next := path.Join(dir, parts[0])
		if _, _, err := e.r.real(next); err == nil {
			e.match(next, parts[1:])
		}
		return
	}
	if strings.Contains(parts[0], "**") {
		e.deep(dir)
		return
	}
	for _, entry := range e.entries(dir) {
		if policy.MatchGlob("/"+parts[0], "/"+entry.Name()) {
			e.match(path.Join(dir, entry.Name()), parts[1:])
		}
	}
}

// deep tries the whole pattern on everything below dir: from its first ** on it
// does not follow the names' bounds.
func (e *expander) deep(dir string) {
	for _, entry := range e.entries(dir) {
		next := path.Join(dir, entry.Name())
		switch {
		case policy.MatchGlob(e.pattern, next):
			e.found = append(e.found, next)
		case entry.IsDir():
			e.deep(next)
		}
	}
}

// entries reads a directory; one that is unreadable for us is so for the
// payload.
func (e *expander) entries(dir string) []fs.DirEntry {
	real, _, err := e.r.real(dir)
	if err != nil || e.err != nil {
		return nil
	}
	entries, err := e.r.sorted(real, e.left)
	if errors.Is(err, ErrMany) {
		e.err = fmt.Errorf("expand %s: more than %d directory entries: name a narrower pattern", e.pattern, maxExpand)
	}
	if err != nil {
		return nil
	}
	e.left -= len(entries)
	return entries
}

func (e *expander) match(p string, rest []string) {
	if len(rest) == 0 {
		e.found = append(e.found, p)
		return
	}
	e.walk(p, rest)
}
