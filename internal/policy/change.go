package policy

import (
	"fmt"
	"slices"
	"strings"

	"github.com/sallyport/sallyport/internal/event"
)

// Change is one small change to a policy.
type Change struct {
	Key string // "network.allowedDomains"
	// Add is an entry to add to the list; Literal says that it is a name of a
	// file, whatever is in it.
	Add     string
	Literal bool
	// Remove is an entry to take out, at Rule.
	Remove string
	Rule   Rule
	// Value is what a key that is no list has to be.
	Value string
	// Trust is a project's file to agree to.
	Trust string
}

func (c Change) String() string {
	switch {
	case c.Trust != "":
		return "sallyport policy trust " + quote(c.Trust)
	case c.Remove != "":
		return fmt.Sprintf("take %s out of %s, %s", quote(c.Remove), c.Key, c.Rule)
	case c.Value != "":
		return c.Key + ": " + c.Value
	case c.Literal:
		return c.Key + ": [{path: " + quote(c.Add) + ", literal: true}]"
	}
	return c.Key + ": [" + quote(c.Add) + "]"
}

// Flip gives the smallest changes that together would turn a decision into its
// opposite, or why none does.
type Flip struct {
	Changes []Change
	Why     string // there are none
	// Careful says what such a change would give away.
	Careful string
}

const (
	whyOwn     = "it decides or records what sandboxes do, and no policy opens it"
	whyName    = "programs on the host act on it, and no policy opens it"
	whyCeiling = "only the administrator can change it"
	whyInvalid = "it is not a request that any policy decides"
)

func addPath(key, path string) Change {
	return Change{Key: key, Add: path, Literal: isPattern(path)}
}

// flipBound looks for what stands above the first view.
func (p *Policy) flipBound(decide func(*Policy) Decision) (f Flip, done bool) {
	for _, v := range p.within {
		if d := decide(v); !d.Allowed() && v.ceiling != nil {
			return Flip{Why: whyCeiling + ", " + d.Rule.String()}, true
		}
	}
	if decide(p).Allowed() {
		return Flip{}, false
	}
	for _, v := range p.within {
		if v.project != nil && decide(v).Allowed() {
			return Flip{Changes: []Change{{Trust: v.project.name}}}, true
		}
	}
	return Flip{}, false
}

// FlipNet says what would change the decision on a connection.
func (p *Policy) FlipNet(req NetRequest) Flip {
	decide := func(v *Policy) Decision { return v.decideNet(req) }
	if decide(p).Reason == event.RequestInvalid {
		return Flip{Why: whyInvalid}
	}
	entry := hostEntryFor(req)
	if p.all(p.within, decide).Allowed() {
		return Flip{Changes: []Change{{Key: "network.deniedDomains", Add: entry}}}
	}
	if f, done := p.flipBound(decide); done {
		return f
	}
	f := Flip{Changes: p.undenied(req.Host, req.Port)}
	if !decide(p.withoutDenials()).Allowed() {
		f.Changes = append(f.Changes, Change{Key: keyAllowedDomains, Add: entry})
	}
	if req.Host.IsAddr() {
		if c := classify(req.Host.Addr, p.own); c != nil && !c.suggest {
			f.Careful = "it is " + c.text
		}
	}
	return f
}

// withoutDenials is the first view as it were without network.deniedDomains.
func (p *Policy) withoutDenials() *Policy {
	open := *p
	open.deniedHosts = newHostTable(nil)
	return &open
}

// undenied takes out every entry that denies a host and port, in whatever file.
func (p *Policy) undenied(h Host, port uint16) []Change {
	var out []Change
	views := append([]*Policy{p}, p.projects()...)
	seen := map[Change]bool{}
	for _, v := range views {
		v.deniedHosts.each(h, func(e hostEntry) bool {
			c := Change{Key: "network.deniedDomains", Remove: e.canonical(), Rule: e.rule}
			if (e.port == 0 || e.port == port) && !seen[c] {
				seen[c] = true
				out = append(out, c)
			}
			return true
		})
	}
	return out
}

func (p *Policy) projects() []*Policy {
	var out []*Policy
	for _, v := range p.within {
		if v.project != nil {
			out = append(out, v)
		}
	}
	return out
}

func hostEntryFor(req NetRequest) string {
	host := req.Host.String()
	if req.Host.IsAddr() && req.Host.Addr.Is6() {
		host = "[" + host + "]"
	}
	return fmt.Sprintf("%s:%d", host, req.Port)
}

// FlipName says what would change the decision on a look-up.
func (p *Policy) FlipName(h Host) Flip {
	decide := func(v *Policy) Decision { return v.decideName(h) }
	if decide(p).Reason == event.NameInvalid {
		return Flip{Why: whyInvalid}
	}
	if p.all(p.within, decide).Allowed() {
		return Flip{Changes: []Change{{Key: "network.deniedDomains", Add: h.Name}}}
	}
	if f, done := p.flipBound(decide); done {
		return f
	}
	const port = 443 // a look-up has none; any that may be reached is enough
	f := Flip{Changes: p.undenied(h, port)}
	if !decide(p.withoutDenials()).Allowed() {
		f.Changes = append(f.Changes, Change{Key: keyAllowedDomains, Add: hostEntryFor(NetRequest{h, port})})
	}
	return f
}

// FlipUnix says what would change the decision on a socket.
func (p *Policy) FlipUnix(path string) Flip {
	decide := func(v *Policy) Decision { return v.decideUnix(path) }
	d := p.all(p.within, decide)
	const key = "network.allowUnixSockets"
	switch {
	case d.Reason == event.RequestInvalid:
		return Flip{Why: whyInvalid}
	case d.Allowed():
		var f Flip
		if p.unix.All {
			f.Changes = append(f.Changes, Change{Key: "network.allowAllUnixSockets", Value: "false"})
		}
		for _, r := range p.unixSockets.covering(path) {
			f.Changes = append(f.Changes, Change{Key: key, Remove: r.Path, Rule: r.Rule})
		}
		return f
	}
	if f, done := p.flipBound(decide); done {
		return f
	}
	f := Flip{Changes: []Change{addPath(key, path)}}
	if p.secret(path) {
		f.Careful = "what listens there holds secrets"
	}
	return f
}

// covering gives every rule of a set that covers a path.
func (s *pathSet) covering(p string) []PathRule {
	var out []PathRule
	for _, r := range s.names {
		if within(p, r.Path) {
			out = append(out, *r)
		}
	}
	for _, g := range s.globs {
		if g.deepest(p) >= 0 {
			out = append(out, g.PathRule)
		}
	}
	slices.SortFunc(out, func(a, b PathRule) int { return strings.Compare(a.Path, b.Path) })
	return out
}
