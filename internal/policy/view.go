package policy

import (
	"slices"

	"github.com/sallyport/sallyport/internal/event"
)

// A policy of several layers is made of views: one of everything that counts,
// and for each file that may only narrow one more, which has to agree. A
// ceiling's view allows what its keys do not speak of. The view of a project's
// untrusted file is the policy as it were if that file were trusted: so it can
// take away, and what it adds the first view does not know.

// all asks every view. The strictest answer holds.
func (p *Policy) all(views []*Policy, decide func(view *Policy) Decision) Decision {
	d := decide(p)
	for _, v := range views {
		d = p.stricter(d, v, decide(v))
	}
	return d
}

func (p *Policy) stricter(d Decision, v *Policy, other Decision) Decision {
	switch {
	case d.Allowed() && other.Allowed():
		if other.Private() {
			return other
		}
		return d
	case v.ceiling != nil && !other.Allowed():
		return v.bounded(other)
	case v.ceiling != nil:
		return d
	case other.Allowed():
		return v.awaitsTrust(d)
	case d.Allowed():
		if other.Rule == builtin(ruleReadOnly) {
			other.Rule = v.project.keys["filesystem.allowWrite"]
		}
		return other
	case other.Rule.File == v.project.name: // its own denial would stay
		other.Ask = false
		return other
	}
	d.Ask = d.Ask && other.Ask
	return d
}

// bounded is a ceiling's denial: nobody below can change it.
func (p *Policy) bounded(d Decision) Decision {
	d.Ask, d.Fix = false, ""
	if d.Text == "" {
		d.Text = "the administrator's policy"
	}
	return d
}

// awaitsTrust says of a denial that an untrusted file would lift it.
func (p *Policy) awaitsTrust(d Decision) Decision {
	if d.Text == "" && d.Reason != event.RequestInvalid {
		d.Text = quote(p.project.name) + " allows it and is not trusted"
		d.Fix = "sallyport policy trust " + quote(p.project.name)
	}
	return d
}

// fallback names what decided where no entry did: the built-in rule, or the
// list of a ceiling in which there is none.
func (p *Policy) fallback(key, name string) Rule {
	if p.ceiling != nil {
		if r, ok := p.ceiling.keys[key]; ok {
			return r
		}
	}
	return builtin(name)
}

// split tells files apart by what they may do.
func split(files []*File) (counted, untrusted, ceilings []*File) {
	for _, f := range files {
		switch f.layer {
		case LayerProject:
			untrusted = append(untrusted, f)
		case LayerCeiling:
			ceilings = append(ceilings, f)
		default:
			counted = append(counted, f)
			counted = append(counted, f.templates...)
		}
	}
	return counted, untrusted, ceilings
}

// combine makes of the views' values those that are no decisions.
func (p *Policy) combine() {
	p.lists = p.meetFiles()
	for _, v := range p.within {
		p.lists.ScanDepth = max(p.lists.ScanDepth, v.files.ScanDepth)
		p.strict = p.strict || v.strict
		p.ask.On = p.ask.On && (v.ask.On || v.ceiling != nil)
		p.combineMac(v)
		p.combineEnv(v)
		if v.require.Tier > p.require.Tier {
			p.require.Tier, p.require.TierRule = v.require.Tier, v.require.TierRule
		}
		if v.require.Audit && !p.require.Audit {
			p.require.Audit, p.require.AuditRule = true, v.require.AuditRule
		}
	}
	p.sockets = p.meetUnix()
}

func (p *Policy) combineMac(v *Policy) {
	if v.ceiling == nil {
		for _, b := range []struct {
			to   *bool
			from bool
		}{{&p.mac.LocalBinding, v.mac.LocalBinding}, {&p.mac.AllUnixSockets, v.mac.AllUnixSockets}, {&p.mac.Trustd, v.mac.Trustd},
			{&p.mac.AppleEvents, v.mac.AppleEvents}, {&p.mac.PTY, v.mac.PTY}} {
			*b.to = *b.to && b.from
		}
		return
	}
	if _, given := v.ceiling.keys["network.allowMachLookup"]; given {
		p.mac.MachLookup = slices.DeleteFunc(p.mac.MachLookup, func(r MachRule) bool {
			return !slices.ContainsFunc(v.mac.MachLookup, func(over MachRule) bool { return over.holds(r) })
		})
	}
	// A profile knows names of sockets, no patterns.
	if _, given := v.ceiling.keys["network.allowUnixSockets"]; given {
		p.mac.AllUnixSockets = p.mac.AllUnixSockets && v.unix.All
		p.mac.UnixSockets = slices.DeleteFunc(p.mac.UnixSockets, func(r PathRule) bool { return !v.decideUnix(r.Path).Allowed() })
	}
}

// holds reports whether every service of another rule is one of this.
func (r MachRule) holds(o MachRule) bool {
	if r.Prefix {
		return len(o.Name) >= len(r.Name) && o.Name[:len(r.Name)] == r.Name
	}
	return !o.Prefix && r.Name == o.Name
}

func (p *Policy) combineEnv(v *Policy) {
	if v.ceiling == nil {
		p.environ.Never = append(p.environ.Never, v.project.unset...)
		return
	}
	p.environ.Never = append(p.environ.Never, v.ceiling.unset...)
	if _, given := v.ceiling.keys["env.pass"]; given {
		p.environ.Only = append(p.environ.Only, append(defaultPass(), v.ceiling.pass...))
	}
}

// meetUnix gives the sockets that every view lists: of two directories of which
// one holds the other, the inner. Patterns are for DecideUnix.
func (p *Policy) meetUnix() UnixRules {
	u := UnixRules{All: p.unix.All, AllRule: p.unix.AllRule}
	views := append([]*Policy{p}, p.within...)
	var sockets ruleSet
	for _, v := range views {
		u.All = u.All && v.unix.All
		for _, r := range v.unix.Sockets {
			if r.Glob || !slices.ContainsFunc(views, func(o *Policy) bool { return !o.decideUnix(r.Path).Allowed() }) {
				sockets.add(r)
			}
		}
	}
	u.Sockets = sockets.rules
	return u
}
