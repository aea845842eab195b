package plan

import (
	"io/fs"
	"slices"
	"strings"

	"github.com/sallyport/sallyport/internal/policy"
)

// Where a policy names many files of one directory, to read the directory takes
// a fraction of what it takes to look at each; and it is read anyway where it
// lies below a write root.
const crowdRatio = 4 // entries read for each that is named, at most

// crowdFrom is how many names are worth it; tests try fewer.
var crowdFrom = 64

// crowd is a directory of which many names are asked.
type crowd struct {
	named   int
	entries []fs.DirEntry
	// names are those that it lists; nil: not read. There may be others: where
	// upper and lower case are alike, and what is mounted when it is looked for.
	names map[string]fs.FileMode
	asked bool
}

// expect counts how many paths of a directory rules name.
func (r *resolver) expect(rules []policy.PathRule) {
	for i := 0; i < len(rules); {
		dir, n := parent(rules[i].Path), 0
		for ; i < len(rules) && parent(rules[i].Path) == dir; i++ {
			n++
		}
		if n >= crowdFrom {
			if r.crowds[dir] == nil {
				r.crowds[dir] = &crowd{}
			}
			r.crowds[dir].named += n
		}
	}
}

// gather reads a directory in which a name could be looked up: from one that can
// be read and not searched, there is nothing to be had by name.
func (r *resolver) gather(dir string, c *crowd) {
	if c.asked {
		return
	}
	c.asked = true
	entries, err := r.fs.ReadDir(dir, crowdRatio*c.named)
	if err != nil {
		return
	}
	c.entries, c.names = entries, make(map[string]fs.FileMode, len(entries))
	for _, e := range entries {
		c.names[e.Name()] = e.Type()
	}
}

// readDir is the FS's, but for what is known already.
func (r *resolver) readDir(dir string, most int) ([]fs.DirEntry, error) {
	if c := r.crowds[dir]; c != nil && c.names != nil {
		if len(c.entries) > most {
			return nil, ErrMany
		}
		return c.entries, nil
	}
	return r.fs.ReadDir(dir, most)
}

// sorted gives entries by name.
func (r *resolver) sorted(dir string, most int) ([]fs.DirEntry, error) {
	entries, err := r.readDir(dir, most)
	entries = slices.Clone(entries)
	byName(entries)
	return entries, err
}

func byName(entries []fs.DirEntry) {
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
}
