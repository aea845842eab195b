package policy

import (
	"strings"
	"unicode/utf8"
)

// The glob language is that of the settings whose keys we share:
//
//	*      any characters of a name, also a leading dot
//	?      one character of a name
//	[a-z]  one of a set; ^ and ! are members like others, a set that is empty,
//	       unclosed, backwards or holds a / is text
//	**     any characters, / too;  **/  any number of directories, also none
//
// A pattern covers what it matches and everything below.

type globOp uint8

const (
	globUnit  globOp = iota // the text itself
	globAny                 // ?
	globSet                 // [..]
	globStar                // *
	globDeep                // **
	globDirs                // the way into **/: go in, or skip it
	globInDir               // inside **/: stays, and leaves at a slash
)

type globState struct {
	op   globOp
	set  uint16 // globSet: its number
	text string // globUnit: one character, or one byte that is not UTF-8
}

// glob is a compiled pattern: a small automaton, so that no pattern takes more
// than its length times the path's.
type glob struct {
	states []globState
	sets   [][]rune // pairs of first and last
}

// isGlob reports whether a pattern has anything but text.
func (g glob) isGlob() bool {
	for _, s := range g.states {
		if s.op != globUnit {
			return true
		}
	}
	return false
}

func compileGlob(pattern string) glob {
	g := glob{states: make([]globState, 0, len(pattern)+1)}
	for pattern != "" {
		switch pattern[0] {
		case '*':
			pattern = g.stars(pattern)
			continue
		case '?':
			g.add(globState{op: globAny})
			pattern = pattern[1:]
			continue
		case '[':
			if set, rest, ok := GlobSet(pattern); ok && len(g.sets) < 1<<16 {
				g.add(globState{op: globSet, set: uint16(len(g.sets))})
				g.sets = append(g.sets, set)
				pattern = rest
				continue
			}
		}
		_, n := utf8.DecodeRuneInString(pattern)
		g.add(globState{op: globUnit, text: pattern[:n]})
		pattern = pattern[n:]
	}
	return g
}

func (g *glob) add(s globState) { g.states = append(g.states, s) }

// stars compiles a run of stars: the last two go with a slash that follows.
func (g *glob) stars(pattern string) (rest string) {
	n := len(pattern) - len(strings.TrimLeft(pattern, "*"))
	rest = pattern[n:]
	dirs := n >= 2 && strings.HasPrefix(rest, "/")
	if dirs {
		n, rest = n-2, rest[1:]
	}
	switch {
	case n >= 2:
		g.add(globState{op: globDeep})
	case n == 1:
		g.add(globState{op: globStar})
	}
	if dirs {
		g.add(globState{op: globDirs})
		g.add(globState{op: globInDir})
	}
	return rest
}

// GlobSet reads a set at the start of a pattern: pairs of first and last, and
// what follows.
func GlobSet(pattern string) (set []rune, rest string, ok bool) {
	end := strings.IndexByte(pattern, ']')
	if end < 2 || strings.Contains(pattern[:end], "/") || !utf8.ValidString(pattern[:end]) {
		return nil, "", false
	}
	members := []rune(pattern[1:end])
	for i := 0; i < len(members); i++ {
		from, to := members[i], members[i]
		if i+2 < len(members) && members[i+1] == '-' {
			to = members[i+2]
			i += 2
		}
		if to < from {
			return nil, "", false
		}
		set = append(set, from, to)
	}
	return set, pattern[end+1:], true
}

// deepest gives the length of the longest leading part of path, cut at a
// slash or at the end, that the pattern matches whole; or -1.
func (g glob) deepest(path string) int {
	const few = 96
	var space [2 * few]bool
	n := len(g.states) + 1
	now, next := space[:few][:min(n, few)], space[few:][:min(n, few)]
	if n > few {
		now, next = make([]bool, n), make([]bool, n)
	}
	found := -1
	g.enter(now, 0)
	for i := 0; i < len(path); {
		if path[i] == '/' && i > 0 && now[n-1] {
			found = i
		}
		r, size := utf8.DecodeRuneInString(path[i:])
		clear(next)
		for s, on := range now[:n-1] {
			if on {
				g.step(next, s, path[i:i+size], r)
			}
		}
		now, next = next, now
		i += size
	}
	if now[n-1] {
		found = len(path)
	}
	return found
}

// enter switches a state on, and those reached from it without a character.
func (g glob) enter(states []bool, s int) {
	for ; s < len(states) && !states[s]; s++ {
		states[s] = true
		if s == len(g.states) {
			return
		}
		switch g.states[s].op {
		case globStar, globDeep:
		case globDirs:
			g.enter(states, s+2)
		default:
			return
		}
	}
}

// step takes one character in state s.
func (g glob) step(next []bool, s int, unit string, r rune) {
	slash := unit == "/"
	switch st := g.states[s]; st.op {
	case globUnit:
		if st.text == unit {
			g.enter(next, s+1)
		}
	case globAny:
		if !slash {
			g.enter(next, s+1)
		}
	case globSet:
		if !slash && inSet(g.sets[st.set], unit, r) {
			g.enter(next, s+1)
		}
	case globStar:
		if !slash {
			g.enter(next, s)
		}
	case globDeep:
		g.enter(next, s)
	case globDirs: // its two ways are switched on with it
	case globInDir:
		next[s] = true
		if slash {
			g.enter(next, s+1)
		}
	}
}

func inSet(set []rune, unit string, r rune) bool {
	if r == utf8.RuneError && len(unit) == 1 {
		return false
	}
	for i := 0; i < len(set); i += 2 {
		if set[i] <= r && r <= set[i+1] {
			return true
		}
	}
	return false
}

// MatchGlob reports whether a pattern covers a path: matches it, or a
// directory above it. Both are absolute and clean, or both relative.
func MatchGlob(pattern, path string) bool {
	if pattern == "" {
		return false
	}
	pattern = trimGlob(pattern)
	if pattern == "/" {
		return strings.HasPrefix(path, "/")
	}
	return compileGlob(pattern).deepest(path) >= 0
}

// trimGlob takes off what the rule of coverage makes superfluous, so that a
// pattern matches the shallowest paths it covers: "d/**" is "d", and "d/**/*"
// is "d/*".
func trimGlob(pattern string) string {
	for {
		short := strings.TrimSuffix(pattern, "/**")
		if s, ok := strings.CutSuffix(short, "/**/*"); ok {
			short = s + "/*"
		}
		if short == pattern {
			break
		}
		pattern = short
	}
	if pattern == "" {
		return "/"
	}
	return pattern
}
