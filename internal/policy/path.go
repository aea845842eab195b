package policy

import (
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"sync"
)

// PathRule is one path of a list, absolute and clean. It covers everything
// below it.
type PathRule struct {
	Path string // a pattern if Glob, else a name, whatever is in it
	Glob bool
	// Final, in DenyRead, says that no AllowRead opens it.
	Final bool
	Rule  Rule
}

// checkPath checks a path as written; what it means needs an Env.
func checkPath(s string) error {
	for _, c := range []byte(s) {
		if c < ' ' || c == 0x7f {
			return fmt.Errorf("control character %#02x in the path %s", c, clip(s))
		}
	}
	if s == "" {
		return errors.New("empty path")
	}
	if strings.HasPrefix(s, "~") && s != "~" && !strings.HasPrefix(s, "~/") {
		return &hinted{clip(s) + ": only ~ and ~/PATH are expanded",
			"write the directory out; for a name that starts with ~ write ./~name"}
	}
	if strings.Contains(s, "://") {
		return &hinted{clip(s) + " is a URL, not a path", "hosts belong in network.allowedDomains"}
	}
	return nil
}

// resolvePath makes an entry absolute and clean.
func resolvePath(e pathEntry, base, home string) (PathRule, error) {
	dir, rest := base, e.path
	switch {
	case strings.HasPrefix(e.path, "/"):
		dir, rest = "/", e.path[1:]
	case e.path == "~", strings.HasPrefix(e.path, "~/"):
		dir, rest = home, strings.TrimPrefix(e.path[1:], "/")
	}
	if e.literal || !strings.ContainsAny(e.path, "*?[") {
		return PathRule{Path: path.Clean(dir + "/" + rest), Rule: e.rule}, nil
	}
	if dotsAfterGlob(rest) {
		return PathRule{}, &hinted{clip(e.path) + ": .. after a wildcard", "write the path without .."}
	}
	rest = trimGlob("/" + path.Clean(rest))
	pattern := isPattern(rest)
	if pattern {
		dir = escapeGlob(dir)
	}
	return PathRule{Path: path.Clean(dir + rest), Glob: pattern, Rule: e.rule}, nil
}

// escapeGlob makes a pattern of a name: the language has no escape character,
// but a set of one.
func escapeGlob(name string) string {
	return strings.NewReplacer("[", "[[]", "*", "[*]", "?", "[?]").Replace(name)
}

func isPattern(s string) bool {
	if !strings.ContainsAny(s, "*?[") {
		return false
	}
	g := compileGlob(s)
	return g.isGlob()
}

func dotsAfterGlob(p string) bool {
	glob := false
	for part := range strings.SplitSeq(p, "/") {
		if part == ".." && glob {
			return true
		}
		glob = glob || strings.ContainsAny(part, "*?[")
	}
	return false
}

// cleanAbs reports whether a path is absolute and in its one spelling.
func cleanAbs(p string) bool {
	return strings.HasPrefix(p, "/") && path.Clean(p) == p && !strings.ContainsRune(p, 0)
}

// within reports whether p is dir or below it; both absolute and clean.
func within(p, dir string) bool {
	if dir == "/" || p == dir {
		return true
	}
	return strings.HasPrefix(p, dir) && p[len(dir)] == '/'
}

// pathSet finds the rule that covers a path: names by map, patterns in turn.
type pathSet struct {
	names map[string]*PathRule
	// No name is shorter or longer.
	shortest, longest int
	globs             []compiledRule
	// sorted are the names, once somebody asks what lies below a path.
	sorting sync.Once
	sorted  []string
}

type compiledRule struct {
	PathRule
	fixed string // how everything begins that it matches
	glob  glob   // of the rest
}

// deepest gives how much of a path the rule matches, -1 if it does not.
func (c *compiledRule) deepest(p string) int {
	rest, ok := strings.CutPrefix(p, c.fixed)
	if !ok {
		return -1
	}
	d := c.glob.deepest(rest)
	if d < 0 {
		return -1
	}
	return len(c.fixed) + d
}

// newPathSet keeps the rules, which stay as they are.
func newPathSet(rules []PathRule) *pathSet {
	s := &pathSet{names: make(map[string]*PathRule, len(rules))}
	for i := range rules {
		r := &rules[i]
		if r.Glob {
			fixed := r.Path[:strings.IndexAny(r.Path, "*?[")]
			s.globs = append(s.globs, compiledRule{*r, fixed, compileGlob(r.Path[len(fixed):])})
		} else if _, dup := s.names[r.Path]; !dup {
			if n := len(r.Path); len(s.names) == 0 {
				s.shortest, s.longest = n, n
			} else {
				s.shortest, s.longest = min(s.shortest, n), max(s.longest, n)
			}
			s.names[r.Path] = r
		}
	}
	return s
}

// deepest gives the rule whose cover of p starts furthest down, and how far
// down that is; -1 if none covers p.
func (s *pathSet) deepest(p string) (PathRule, int) {
	rule, depth := s.deepestName(p)
	for i := range s.globs {
		if d := s.globs[i].deepest(p); d > depth {
			rule, depth = s.globs[i].PathRule, d
		}
	}
	return rule, depth
}

func (s *pathSet) deepestName(p string) (PathRule, int) {
	if len(s.names) == 0 {
		return PathRule{}, -1
	}
	for dir := p; ; dir = dir[:strings.LastIndexByte(dir, '/')] {
		if dir == "" {
			dir = "/"
		}
		if len(dir) < s.shortest {
			return PathRule{}, -1
		}
		if len(dir) <= s.longest {
			if r, ok := s.names[dir]; ok {
				return *r, len(dir)
			}
		}
		if dir == "/" {
			return PathRule{}, -1
		}
	}
}

// below gives a rule for a name that lies under p, if there is one: the first
// by name.
func (s *pathSet) below(p string) (found PathRule, ok bool) {
	s.sorting.Do(func() { s.sorted = slices.Sorted(maps.Keys(s.names)) })
	prefix := strings.TrimSuffix(p, "/") + "/"
	i, _ := slices.BinarySearch(s.sorted, prefix)
	for ; i < len(s.sorted) && strings.HasPrefix(s.sorted[i], prefix); i++ {
		if name := s.sorted[i]; name != p {
			return *s.names[name], true
		}
	}
	return PathRule{}, false
}
