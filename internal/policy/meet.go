package policy

import "slices"

// ruleSet is a list of rules in which none stands twice.
type ruleSet struct {
	rules []PathRule
	seen  map[ruleKey]bool
}

type ruleKey struct {
	path        string
	glob, final bool
}

func (s *ruleSet) add(rules ...PathRule) {
	if s.seen == nil {
		s.seen = map[ruleKey]bool{}
	}
	for _, r := range rules {
		if k := (ruleKey{r.Path, r.Glob, r.Final}); !s.seen[k] {
			s.seen[k] = true
			s.rules = append(s.rules, r)
		}
	}
}

// meetFiles makes of the views' lists one set of lists that allows nothing
// which a view denies, for boundaries that are built of lists. Where there is
// no list for what the views allow together (two patterns that overlap), it
// allows less than DecideFile; Points names the paths for those who can ask it.
func (p *Policy) meetFiles() FileRules {
	views := []*Policy{p}
	for _, v := range p.within {
		if v.boundsFiles() {
			views = append(views, v)
		}
	}
	if len(views) == 1 {
		return p.files
	}
	r := FileRules{ProtectedPaths: p.files.ProtectedPaths}
	var denyRead, denyWrite, allowRead, allowWrite, points ruleSet
	for _, v := range views {
		r.ScanDepth = max(r.ScanDepth, v.files.ScanDepth)
		denyRead.add(v.hiddenRules...)
		if v.files.Disabled {
			continue
		}
		denyRead.add(v.files.DenyRead...)
		denyWrite.add(v.files.DenyWrite...)
		for _, n := range v.files.Protected {
			if !slices.ContainsFunc(r.Protected, func(o ProtectedName) bool { return o.Path == n.Path && o.Dir == n.Dir }) {
				r.Protected = append(r.Protected, n)
			}
		}
	}
	keep := func(to *ruleSet, list []PathRule, allows func(*Policy, PathRule) bool) {
		for _, a := range list {
			if slices.ContainsFunc(views, func(v *Policy) bool { return !allows(v, a) }) {
				to = &points
			}
			to.add(a)
		}
	}
	for _, v := range views {
		keep(&allowRead, v.files.AllowRead, (*Policy).readsAll)
		keep(&allowWrite, v.writeList(), (*Policy).writesAll)
	}
	r.DenyRead, r.AllowRead, r.AllowWrite, r.DenyWrite = denyRead.rules, allowRead.rules, allowWrite.rules, denyWrite.rules
	r.Points = points.rules
	return r
}

// boundsFiles reports whether a view has anything to say about files.
func (p *Policy) boundsFiles() bool {
	if p.ceiling == nil {
		return true
	}
	return slices.ContainsFunc([]string{"denyRead", "allowRead", "allowWrite", "denyWrite"}, func(key string) bool {
		_, given := p.ceiling.keys["filesystem."+key]
		return given
	})
}

// writeList is what may be written, where it is everything too.
func (p *Policy) writeList() []PathRule {
	if p.files.Disabled {
		return []PathRule{{Path: "/", Rule: builtin(ruleNoFiles)}}
	}
	return p.files.AllowWrite
}

// readsAll reports whether a view lets everything be read at the depth of a
// rule. What it denies further down it denies by a list of its own.
func (p *Policy) readsAll(r PathRule) bool {
	if !r.Glob {
		return p.decideRead(r.Path).Allowed()
	}
	return p.files.Disabled || p.allowRead.has(r)
}

func (p *Policy) writesAll(r PathRule) bool {
	if p.files.Disabled || p.allowWrite.has(r) {
		return true
	}
	if r.Glob {
		_, depth := p.allowWrite.deepestName(fixedPart(r.Path))
		return depth >= 0
	}
	_, depth := p.allowWrite.deepest(r.Path)
	return depth >= 0
}

// fixedPart is the directory that holds everything a pattern matches.
func fixedPart(pattern string) string {
	end := 0
	for i := range len(pattern) {
		switch pattern[i] {
		case '/':
			end = i
		case '*', '?', '[':
			return pattern[:max(end, 1)]
		}
	}
	return pattern
}

// has reports whether the very rule is in a set.
func (s *pathSet) has(r PathRule) bool {
	if !r.Glob {
		_, ok := s.names[r.Path]
		return ok
	}
	return slices.ContainsFunc(s.globs, func(g compiledRule) bool { return g.Path == r.Path })
}
