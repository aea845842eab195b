package policy

import (
	"net/netip"

	"github.com/sallyport/sallyport/internal/event"
)

// Built-in rules' names.
const (
	ruleDefaultDeny = "default-deny"
	ruleLiteral     = "address-literal"
	rulePortSMTP    = "port-25"
	ruleInvalid     = "invalid-request"
)

const keyAllowedDomains = "network.allowedDomains"

func builtin(name string) Rule { return Rule{Name: name} }

func denied(reason event.Reason, rule Rule) Decision {
	return Decision{Verdict: event.Deny, Reason: reason, Rule: rule}
}

func allowed(rule Rule) Decision {
	return Decision{Verdict: event.Allow, Reason: event.RuleAllowed, Rule: rule}
}

// valid reports whether a host looks as ParseHost makes it: another spelling
// of a denied name would pass as one that nothing denies.
func (h Host) valid() bool {
	if h.IsAddr() {
		return h.Name == "" && h.Addr.Zone() == "" && !h.Addr.Is4In6()
	}
	for _, c := range []byte(h.Name) {
		if !nameByte(c) && c != '.' {
			return false
		}
	}
	return h.Name != "" && h.Name[len(h.Name)-1] != '.'
}

// DecideNet decides a connection by name or by plain address. A name that is
// allowed may still lead to an address that is not: DecideResolved.
func (p *Policy) DecideNet(req NetRequest) Decision {
	return p.all(p.hostViews, func(v *Policy) Decision { return v.decideNet(req) })
}

func (p *Policy) decideNet(req NetRequest) Decision {
	switch {
	case !req.Host.valid() || req.Port == 0:
		return denied(event.RequestInvalid, builtin(ruleInvalid))
	case req.Host.IsAddr():
		return p.decideLiteral(req)
	}
	if e, ok := p.deniedHosts.deny(req.Host, req.Port); ok {
		return p.ruleDenied(e)
	}
	e, other, ok := p.allowedHosts.allow(req.Host, req.Port)
	if ok {
		return allowed(e.rule)
	}
	return p.notAllowed(req, other)
}

// ruleDenied is a denial by a line of the policy.
func (p *Policy) ruleDenied(e hostEntry) Decision {
	d := denied(event.RuleDenied, e.rule)
	d.Text = e.text
	d.Fix = "take " + e.canonical() + " out of network.deniedDomains, " + e.rule.String()
	return d
}

// notAllowed is the answer where no rule speaks of host and port.
func (p *Policy) notAllowed(req NetRequest, other hostEntry) Decision {
	d := denied(event.NotAllowed, p.fallback(keyAllowedDomains, ruleDefaultDeny))
	switch {
	case req.Port == portSMTP:
		d = denied(event.PortDenied, p.fallback(keyAllowedDomains, rulePortSMTP))
	case other.kind != hostNone:
		d.Reason = event.PortDenied
	}
	d.Ask = p.asks()
	d.Fix = fixHost(req)
	return d
}

// decideLiteral decides a plain address.
func (p *Policy) decideLiteral(req NetRequest) Decision {
	if d, ok := p.decideAddr(req.Host.Addr, req.Port); ok {
		return d
	}
	_, other, _ := p.allowedHosts.allow(req.Host, req.Port)
	d := p.notAllowed(req, other)
	if d.Reason == event.NotAllowed {
		d.Reason, d.Rule = event.AddressLiteral, p.fallback(keyAllowedDomains, ruleLiteral)
	}
	return d
}

// DecideResolved decides an address that an allowed name resolved to, or an
// allowed plain address once more, just before it is dialled.
func (p *Policy) DecideResolved(req NetRequest, addr netip.Addr) Decision {
	return p.all(p.hostViews, func(v *Policy) Decision { return v.decideResolved(req, addr) })
}

func (p *Policy) decideResolved(req NetRequest, addr netip.Addr) Decision {
	granted := p.decideNet(req)
	if !granted.Allowed() {
		return granted
	}
	addr = addr.Unmap()
	if !addr.IsValid() || addr.Zone() != "" || req.Host.IsAddr() && req.Host.Addr != addr {
		return denied(event.AddressDenied, builtin(ruleInvalid))
	}
	if d, ok := p.decideAddr(addr, req.Port); ok && !d.Allowed() {
		return d
	}
	return granted
}

// decideAddr decides an address by the rules that speak of addresses; ok is
// false where none does. An entry opens whatever it covers, but for two cases
// in which only an entry for the single address does: metadata services, and
// addresses that carry a denied IPv4 address inside.
func (p *Policy) decideAddr(addr netip.Addr, port uint16) (d Decision, ok bool) {
	host := Host{Addr: addr}
	if e, ok := p.deniedHosts.deny(host, port); ok {
		return p.ruleDenied(e), true
	}
	var special *addressClass
	if !p.anyHost {
		special = classify(addr, p.own)
	}
	if e, _, ok := p.allowedHosts.allow(host, port); ok {
		if e.prefix.IsSingleIP() || special == nil || !special.single {
			if inner, isTunnel := embedded(addr); isTunnel && !e.prefix.IsSingleIP() {
				if d, ok := p.decideAddr(inner, port); ok && !d.Allowed() {
					return d, true
				}
			}
			return allowed(e.rule), true
		}
	}
	if e, ok := p.deniedAddrs.deny(host, port); ok {
		d := denied(event.AddressDenied, e.rule)
		d.Fix = fixHost(NetRequest{Host: host, Port: port})
		return d, true
	}
	if special == nil {
		return Decision{}, false
	}
	d = denied(event.AddressDenied, builtin("address-"+special.name))
	d.Text = special.text
	if special.suggest {
		d.Fix = fixHost(NetRequest{Host: host, Port: port})
	}
	return d, true
}

// DecideName decides a look-up: denied only if no port of the name can be
// reached, so that the answer may be NXDOMAIN.
func (p *Policy) DecideName(h Host) Decision {
	return p.all(p.hostViews, func(v *Policy) Decision { return v.decideName(h) })
}

func (p *Policy) decideName(h Host) Decision {
	if !h.valid() || h.IsAddr() {
		return denied(event.NameInvalid, builtin(ruleInvalid))
	}
	const anyPort = 0 // matches entries without a port only
	if e, ok := p.deniedHosts.deny(h, anyPort); ok {
		return p.ruleDenied(e)
	}
	found := Decision{}
	p.allowedHosts.each(h, func(e hostEntry) bool {
		if e.port != 0 {
			if _, no := p.deniedHosts.deny(h, e.port); no {
				return true
			}
		}
		found = allowed(e.rule)
		return false
	})
	if found.Allowed() {
		return found
	}
	d := p.notAllowed(NetRequest{Host: h, Port: 443}, hostEntry{})
	if d.Ask {
		d.Verdict = event.Allow
	}
	return d
}

// AllowNoSNI reports whether a rule lets TLS without a server name through.
func (p *Policy) AllowNoSNI(req NetRequest) (Rule, bool) {
	return p.allRules(req, func(v *Policy) *hostTable { return v.noSNI })
}

// AllowUpgrade reports whether a rule lets plain HTTP change to another
// protocol.
func (p *Policy) AllowUpgrade(req NetRequest) (Rule, bool) {
	return p.allRules(req, func(v *Policy) *hostTable { return v.upgrades })
}

// allRules gives the rule that allows, if every view has one.
func (p *Policy) allRules(req NetRequest, table func(*Policy) *hostTable) (Rule, bool) {
	e, _, ok := table(p).allow(req.Host, req.Port)
	for _, v := range p.hostViews {
		_, _, also := table(v).allow(req.Host, req.Port)
		ok = ok && also
	}
	if !ok {
		return Rule{}, false
	}
	return e.rule, true
}

// asks reports whether what nothing forbids may be asked about.
func (p *Policy) asks() bool { return (p.ask.On || p.authorizer != nil) && !p.strict }
