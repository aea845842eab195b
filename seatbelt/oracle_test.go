package seatbelt

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/sallyport/sallyport/internal/event"
	"github.com/sallyport/sallyport/internal/policy"
)

// What a profile has to say, written down once more from the policy's rules,
// by other means than the profile is made.

// globMatch matches a whole path, by trying everything.
func globMatch(pattern, s string) bool {
	if pattern == "" {
		return s == ""
	}
	switch {
	case strings.HasPrefix(pattern, "**"):
		n := len(pattern) - len(strings.TrimLeft(pattern, "*"))
		rest := pattern[n:]
		if strings.HasPrefix(rest, "/") {
			// n-2 stars stand before **/.
			return tryStar(strings.Repeat("*", n-2), s, func(s string) bool {
				return globMatch(rest[1:], s) || anySuffix(s, func(i int) bool { return s[i-1] == '/' && globMatch(rest[1:], s[i:]) })
			})
		}
		return globMatch(rest, s) || anySuffix(s, func(i int) bool { return globMatch(rest, s[i:]) })
	case pattern[0] == '*':
		return tryStar("*", s, func(s string) bool { return globMatch(pattern[1:], s) })
	case s == "":
		return false
	}
	r, n := utf8.DecodeRuneInString(s)
	if pattern[0] == '?' {
		return r != '/' && globMatch(pattern[1:], s[n:])
	}
	if pattern[0] == '[' {
		if pairs, rest, ok := policy.GlobSet(pattern); ok {
			for i := 0; i < len(pairs); i += 2 {
				if r != '/' && pairs[i] <= r && r <= pairs[i+1] {
					return globMatch(rest, s[n:])
				}
			}
			return false
		}
	}
	return pattern[0] == s[0] && globMatch(pattern[1:], s[1:])
}

// tryStar matches one of "", "*", "**" and then the rest.
func tryStar(star, s string, rest func(string) bool) bool {
	if rest(s) {
		return true
	}
	return star != "" && anySuffix(s, func(i int) bool {
		return (star == "**" || !strings.Contains(s[:i], "/")) && rest(s[i:])
	})
}

func anySuffix(s string, ok func(i int) bool) bool {
	for i := 1; i <= len(s); i++ {
		if ok(i) {
			return true
		}
	}
	return false
}

// prefixes are the directories on the way to a path and itself, deepest first.
func prefixes(p string) []string {
	out := []string{}
	for ; p != "/"; p = p[:max(1, strings.LastIndexByte(p, '/'))] {
		out = append(out, p)
		if strings.LastIndexByte(p, '/') == 0 {
			break
		}
	}
	return append(out, "/")
}

// deepest is how far down the rules cover a path, -1: not at all.
func deepest(rules []policy.PathRule, p string) int {
	found := -1
	for _, r := range rules {
		for _, q := range prefixes(p) {
			if r.Glob && globMatch(r.Path, q) || !r.Glob && r.Path == q {
				found = max(found, len(components(q)))
				break
			}
		}
	}
	return found
}

// oracle decides for a Mac on which no path is a link.
type oracle struct {
	rules policy.FileRules
	home  string
	tmp   string

	// What follows from the rules, worked out once.
	roots                     []string
	final, other, otherMoved  []policy.PathRule // read denials
	writeMoved                []policy.PathRule
	immovable, immovableMoved []policy.PathRule

	last answers // one path is asked about once for every operation
}

// answers are those about one path.
type answers struct {
	path                string
	hidden, write, move bool
}

func newOracle(rules policy.FileRules, home, tmp string) *oracle {
	o := &oracle{rules: rules, home: home, tmp: tmp}
	o.roots = o.writeRoots()
	for _, r := range rules.DenyRead {
		if r.Final {
			o.final = append(o.final, r)
		} else {
			o.other = append(o.other, r)
		}
	}
	o.otherMoved, o.writeMoved = o.carried(o.other), o.carried(rules.DenyWrite)
	o.immovable = slices.Concat(rules.ProtectedPaths, rules.DenyRead)
	if rules.Disabled {
		o.immovable = slices.Concat(rules.ProtectedPaths, o.final)
	} else {
		o.immovable = append(o.immovable, rules.DenyWrite...)
	}
	o.immovableMoved = o.carried(o.immovable)
	return o
}

func (o *oracle) about(p string) answers {
	if o.last.path != p {
		hidden := o.hidden(p)
		write := !hidden && o.write(p)
		o.last = answers{path: p, hidden: hidden, write: write, move: write && o.move(p)}
	}
	return o.last
}

func (o *oracle) hidden(p string) bool {
	if deepest(o.final, p) >= 0 {
		return true
	}
	if o.rules.Disabled {
		return false
	}
	deny := max(deepest(o.other, p), deepest(o.otherMoved, p))
	return deny >= 0 && deny > deepest(o.rules.AllowRead, p)
}

// carried are rules with **/ as they have to hold in places to which something
// they match inside could be moved.
func (o *oracle) carried(rules []policy.PathRule) (out []policy.PathRule) {
	if o.rules.Disabled {
		return nil
	}
	for _, r := range rules {
		before, tail, ok := strings.Cut(r.Path, "**/")
		if !r.Glob || !ok {
			continue
		}
		base := literalDir(r.Path)
		for _, root := range o.roots {
			held := within(root, base) && strings.TrimSuffix(base, "/")+"/" == before
			if !held && slices.ContainsFunc(o.roots, func(root string) bool { return overlap(root, base) }) {
				out = append(out, policy.PathRule{Path: strings.TrimSuffix(root, "/") + "/**/" + tail, Glob: true})
			}
		}
	}
	return out
}

// literalDir is the directory before the first wildcard.
func literalDir(pattern string) string {
	p := pattern[:strings.IndexAny(pattern, "*?[")]
	return p[:max(1, strings.LastIndexByte(p, '/'))]
}

func (o *oracle) writeRoots() []string {
	if o.rules.Disabled {
		return []string{"/"}
	}
	dirs := []string{o.tmp}
	for _, r := range o.rules.AllowWrite {
		p := r.Path
		if r.Glob {
			p = literalDir(p)
		}
		dirs = append(dirs, p)
	}
	return outermost(dirs)
}

func (o *oracle) underRootOrHome(p string) bool {
	return within(p, o.home) || slices.ContainsFunc(o.roots, func(r string) bool { return within(p, r) })
}

// write decides file-write-data of what is not hidden.
func (o *oracle) write(p string) bool {
	if deepest(o.rules.ProtectedPaths, p) >= 0 {
		return false
	}
	if o.rules.Disabled {
		return true
	}
	if slices.Contains(devices, p) {
		return true
	}
	if deepest(o.rules.AllowWrite, p) < 0 && !within(p, o.tmp) {
		return false
	}
	return deepest(o.rules.DenyWrite, p) < 0 && deepest(o.writeMoved, p) < 0 && !o.protected(p, false)
}

// protected reports whether a name on the way to p must not be written, or,
// with parents, whether p leads to one.
func (o *oracle) protected(p string, parents bool) bool {
	if !o.underRootOrHome(p) {
		return false
	}
	low := strings.ToLower(p)
	for _, name := range o.rules.Protected {
		pattern := "/**/" + name.Path
		if !parents {
			if globMatch(pattern, low) || name.Dir && policy.MatchGlob(pattern, low) {
				return true
			}
			continue
		}
		parts := strings.Split(name.Path, "/")
		for i := 1; i < len(parts); i++ {
			lead := strings.Join(parts[:i], "/")
			if strings.HasSuffix(lead, "/**") {
				lead = strings.TrimSuffix(lead, "*")
			}
			if globMatch("/**/"+lead, low) {
				return true
			}
		}
	}
	return false
}

// move decides file-write-unlink and file-write-create of what may be written:
// nothing that leads to what is denied may be moved, or made anew.
func (o *oracle) move(p string) bool {
	if o.protected(p, true) {
		return false
	}
	for _, r := range o.immovableMoved {
		_, tail, _ := strings.Cut(r.Path, "**/")
		if below, ok := strings.CutPrefix(p, strings.TrimSuffix(literalDir(r.Path), "/")+"/"); ok && deepLeads(components(below), components(tail)) {
			return false
		}
	}
	return !slices.ContainsFunc(o.immovable, func(r policy.PathRule) bool { return leadsTo(p, r) })
}

// leadsTo reports whether p is a directory on the way to what a rule names, as
// far as names go.
func leadsTo(p string, r policy.PathRule) bool {
	names, want := components(p), components(r.Path)
	if !r.Glob {
		return p != r.Path && within(r.Path, p)
	}
	for i, w := range want {
		if i == len(names) {
			return true
		}
		if w == "**" {
			return deepLeads(names[i:], want[i+1:])
		}
		if i == len(want)-1 || !globMatch(w, names[i]) {
			return false
		}
	}
	return false
}

// deepLeads: after any number of directories, the first names of what follows.
func deepLeads(names, tail []string) bool {
	for n := 1; n < len(tail); n++ {
		if len(names) >= n && globMatch(strings.Join(tail[:n], "/"), strings.Join(names[len(names)-n:], "/")) {
			return true
		}
	}
	return false
}

// allows decides by the kernel's names.
func (o *oracle) allows(op string, s subject) bool {
	a := o.about(s.path)
	switch op {
	case "file-read-data", "file-read-xattr", "process-exec":
		return !a.hidden || s.path == "/" && o.rootHidden()
	case "file-read-metadata":
		return s.dir || !a.hidden || s.path == "/" && o.rootHidden()
	case "file-write-unlink", "file-write-create":
		return a.move
	}
	return a.write
}

// rootHidden: / itself stays readable where the policy would hide it.
func (o *oracle) rootHidden() bool { return deepest(o.rules.DenyRead, "/") >= 0 }

var oracleOps = []string{"file-read-data", "file-read-metadata", "file-read-xattr", "process-exec", "file-write-data", "file-write-create",
	"file-write-unlink", "file-write-mode"}

// ofPolicy maps an operation to that of the policy that allows no less.
var ofPolicy = map[string]event.Operation{"file-read-data": event.FileRead, "file-read-xattr": event.FileRead, "process-exec": event.FileExec,
	"file-write-data": event.FileWrite, "file-write-create": event.FileCreate, "file-write-unlink": event.FileDelete, "file-write-mode": event.FileMeta}

func TestTheProfileSaysWhatThePolicySaysHoweverItIsRead(t *testing.T) {
	t.Parallel()
	policies, paths := 320, 80 // of each, eight operations
	if testing.Short() {
		policies = 50
	}
	cases, allowed, tighter := 0, 0, 0
	for i := range policies {
		w := world{rand.New(rand.NewPCG(7, uint64(i)))}
		exact := i%4 != 0
		p, yaml := w.policy(t, exact)
		profile := build(t, p)
		machines := both(t, profile)
		o := newOracle(p.Files(), macEnv.Home, worldTmp)
		for range paths {
			s := subject{path: w.path(), dir: w.IntN(2) == 0}
			chars := machines[1].matches(s)
			matches := [2][]bool{chars, chars}
			if !isASCII(s.path) { // else bytes are characters
				matches[0] = machines[0].matches(s)
			}
			for _, op := range oracleOps {
				cases++
				got := machines[1].modelH(op, matches[1])
				want := o.allows(op, s)
				for k, m := range machines {
					verdict := m.modelH(op, matches[k])
					if m.flat(op, matches[k]) != verdict || verdict && !want {
						t.Fatalf("%s %s: the readings differ\n%s\n%s", op, s.path, yaml, profile)
					}
				}
				switch {
				case got:
					allowed++
				case want:
					tighter++
				}
				if got && !want || got != want && exact {
					t.Fatalf("%s %s (directory %v): allowed %v, want %v\n%s\n%s", op, s.path, s.dir, got, want, yaml, profile)
				}
				checkAgainstPolicy(t, p, op, s, got, yaml)
			}
		}
	}
	if !testing.Short() && cases < 200_000 {
		t.Errorf("only %d cases", cases)
	}
	if allowed < cases/20 || allowed > cases*19/20 || tighter > cases/50 {
		t.Errorf("%d of %d allowed, %d of them for the profile's sake not: the cases say little", allowed, cases, tighter)
	}
	t.Logf("%d cases, %d allowed, %d refused that the policy would not", cases, allowed, tighter)
}

// TestPatternsThatMatchBelowEachOtherOpenNothing: of two patterns with **/, each
// can match below what the other does.
func TestPatternsThatMatchBelowEachOtherOpenNothing(t *testing.T) {
	names := []string{"a", "b", "k.pem"}
	paths := []string{"/Users/u/proj"}
	for i := 0; len(paths[i]) < len("/Users/u/proj/1/2/3/4"); i++ {
		for _, n := range names {
			paths = append(paths, paths[i]+"/"+n)
		}
	}
	opened := 0
	for i := range 30 {
		w := world{rand.New(rand.NewPCG(19, uint64(i)))}
		deep := func() string {
			p := pick(w, []string{"/Users/u", "/Users/u/proj", "/Users/u/proj/a"}) + "/**/" + pick(w, append(names, "*.pem"))
			if w.IntN(3) == 0 {
				p += "/" + pick(w, names)
			}
			return p
		}
		yaml := fmt.Sprintf("filesystem:\n  denyRead: [%q, %q]\n  allowRead: [%q]\n  allowWrite: [/Users/u/proj]\n", deep(), deep(), deep())
		p := macPolicy(t, yaml)
		m := both(t, build(t, p))[1]
		o := newOracle(p.Files(), macEnv.Home, worldTmp)
		for _, path := range paths {
			s := subject{path: path}
			match := m.matches(s)
			for _, op := range []string{"file-read-data", "file-write-data"} {
				got := m.modelH(op, match)
				if got != m.flat(op, match) || got && !o.allows(op, s) {
					t.Fatalf("%s %s: allowed %v, want %v\n%s", op, path, got, o.allows(op, s), yaml)
				}
				if got && deepest(p.Files().DenyRead, path) >= 0 {
					opened++
				}
			}
		}
	}
	if opened < 100 {
		t.Errorf("only %d times did a permission open what a denial covers", opened)
	}
}

// checkAgainstPolicy: what a profile allows, the policy's own decision does.
func checkAgainstPolicy(t *testing.T, p *policy.Policy, op string, s subject, allowed bool, yaml string) {
	t.Helper()
	asked, ok := ofPolicy[op]
	if !allowed || !ok || within(s.path, worldTmp) || s.path == "/" {
		return
	}
	if d := p.DecideFile(asked, s.path); !d.Allowed() {
		t.Fatalf("%s %s is allowed, the policy: %v by %v\n%s", op, s.path, d.Reason, d.Rule, yaml)
	}
}
