package policy

import (
	"slices"
	"time"

	"github.com/goccy/go-yaml/ast"
)

// What a ceiling bounds that is decided once, at the start of a run: ports,
// limits, the authorizer, the mode.

// takenAway is what somebody asked for and a ceiling does not let them have.
type takenAway struct {
	what    string
	asked   Rule
	ceiling Rule
}

// bound finds the first ceiling that has a key and does not agree.
func bound(ceilings []*File, key string, agrees func(*File) bool) *File {
	i := slices.IndexFunc(ceilings, func(c *File) bool { return c.has(key) && !agrees(c) })
	if i < 0 {
		return nil
	}
	return ceilings[i]
}

func (f *File) has(key string) bool {
	_, given := f.keys[key]
	return given
}

// mode takes enforce, and audit where it could be.
func mode() shape {
	of := choice(func(f *File, s string, _ Rule) { f.off["mode"] = s == "enforce" }, "enforce", "audit")
	return func(w *walker, n ast.Node) {
		before := len(w.errs)
		if of(w, n); w.sketch == nil && len(w.errs) == before && w.file.layer == LayerCeiling && !w.file.off["mode"] {
			w.fail(n, "mode: enforce keeps those below to it", "mode: audit narrows nothing")
		}
	}
}

// combineOnce makes the values of which there is one for a run.
func (p *Policy) combineOnce(counted, untrusted, ceilings []*File) {
	var taken []takenAway
	p.publish, p.hostPorts, taken = mergePorts(counted, ceilings)
	p.limits = mergeLimits(counted, append(slices.Clone(ceilings), untrusted...))
	if lost := p.boundAuthorizer(ceilings); lost != nil {
		taken = append(taken, *lost)
	}
	taken = append(taken, p.boundMode(counted, ceilings)...)
	for _, t := range taken {
		p.warning(t.asked, "only the administrator can change it", "%s does not count: the administrator's policy does not have it, %s", t.what, t.ceiling)
	}
}

// boundAuthorizer lets nobody decide whom a ceiling that names one does not
// name, and nobody longer, or for longer, than it says. Whom no file below names
// a ceiling does not bring in: that could only allow more.
func (p *Policy) boundAuthorizer(ceilings []*File) *takenAway {
	const key = "network.authorizer"
	a := p.authorizer
	if a == nil {
		return nil
	}
	for _, v := range p.within {
		c := v.authorizer
		if v.ceiling == nil || c == nil {
			continue
		}
		if !slices.Equal(a.Exec, c.Exec) || a.HTTP != c.HTTP || a.Unix != c.Unix {
			p.authorizer = nil
			return &takenAway{key, a.Rule, c.Rule}
		}
		for _, d := range []struct{ to, from *time.Duration }{{&a.Timeout, &c.Timeout}, {&a.TTL, &c.TTL}} {
			*d.to = min(*d.to, *d.from)
		}
		a.NegativeTTL = max(a.NegativeTTL, c.NegativeTTL)
	}
	return nil
}

// boundMode keeps files to enforcing where a ceiling does: there is no other
// mode then.
func (p *Policy) boundMode(files, ceilings []*File) (taken []takenAway) {
	above := bound(ceilings, "mode", func(c *File) bool { return !c.off["mode"] })
	if above == nil {
		return nil
	}
	for _, f := range files {
		if f.has("mode") && !f.off["mode"] {
			taken = append(taken, takenAway{"mode: audit", f.keys["mode"], above.keys["mode"]})
		}
	}
	p.unbuilt = slices.DeleteFunc(p.unbuilt, func(u Unbuilt) bool { return u.Key == "mode" })
	return taken
}
