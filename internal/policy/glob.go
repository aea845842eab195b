package policy

import (
	"math/bits"
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
	// reach has for each state the bits of those that are switched on with it,
	// where all fit.
	reach []uint64
}

// fewStates is how many have a bit each; one more is the end.
const fewStates = 63

// isGlob reports whether a pattern has anything but text.
func (g *glob) isGlob() bool {
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
	g.connect()
	return g
}

// connect fills in reach.
func (g *glob) connect() {
	n := len(g.states)
	if n > fewStates {
		return
	}
	g.reach = make([]uint64, n+1)
	for s := n; s >= 0; s-- {
		g.reach[s] = 1 << s
		if s == n {
			continue
		}
		switch g.states[s].op {
		case globStar, globDeep:
			g.reach[s] |= g.reach[s+1]
		case globDirs:
			g.reach[s] |= g.reach[s+1] | g.reach[s+2]
		}
	}
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
func (g *glob) deepest(path string) int {
	if g.reach != nil {
		return g.deepestOfFew(path)
	}
	return g.deepestOfMany(path)
}

func (g *glob) deepestOfFew(path string) int {
	end := uint64(1) << len(g.states)
	now, found := g.reach[0], -1
	for i, size := 0, 0; i < len(path) && now != 0; i += size {
		r := rune(path[i])
		if size = 1; r >= utf8.RuneSelf {
			r, size = utf8.DecodeRuneInString(path[i:])
		}
		if r == '/' && now&end != 0 {
			found = i
		}
		var next uint64
		for left := now &^ end; left != 0; left &= left - 1 {
			next |= g.after(bits.TrailingZeros64(left), path[i:i+size], r)
		}
		now = next
	}
	if now&end != 0 {
		found = len(path)
	}
	return found
}

// after gives the states that one character in state s leads to.
func (g *glob) after(s int, unit string, r rune) uint64 {
	st := &g.states[s]
	switch st.op {
	case globUnit:
		if st.text[0] == unit[0] && st.text == unit {
			return g.reach[s+1]
		}
	case globAny:
		if r != '/' {
			return g.reach[s+1]
		}
	case globSet:
		if r != '/' && inSet(g.sets[st.set], unit, r) {
			return g.reach[s+1]
		}
	case globStar:
		if r != '/' {
			return g.reach[s]
		}
	case globDeep:
		return g.reach[s]
	case globInDir:
		if r == '/' {
			return 1<<s | g.reach[s+1]
		}
		return 1 << s
	}
	return 0
}

func (g *glob) deepestOfMany(path string) int {
	n := len(g.states) + 1
	now, next := make([]bool, n), make([]bool, n)
	found := -1
	g.enter(now, 0)
	for i := 0; i < len(path); {
		if path[i] == '/' && now[n-1] {
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
func (g *glob) enter(states []bool, s int) {
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
func (g *glob) step(next []bool, s int, unit string, r rune) {
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
	g := compileGlob(pattern)
	return g.deepest(path) >= 0
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
