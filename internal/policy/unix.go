package policy

import (
	"slices"

	"github.com/sallyport/sallyport/internal/event"
)

// UnixRules says which of the host's unix sockets may be reached. Those that
// the sandbox makes for itself need no rule.
type UnixRules struct {
	All     bool
	AllRule Rule
	Sockets []PathRule // a socket, or a directory of sockets
}

const ruleUnixSocket = "unix-socket"

// Unix gives the rules for unix sockets.
func (p *Policy) Unix() UnixRules {
	u := p.sockets
	u.Sockets = slices.Clone(u.Sockets)
	return u
}

// DecideUnix decides a connection to a socket of the host by its absolute,
// clean path. Links are the caller's: it is decided where they lead.
func (p *Policy) DecideUnix(path string) Decision {
	return p.all(p.within, func(v *Policy) Decision { return v.decideUnix(path) })
}

func (p *Policy) decideUnix(path string) Decision {
	if !cleanAbs(path) {
		return denied(event.RequestInvalid, builtin(ruleInvalid))
	}
	if p.unix.All {
		return allowed(p.unix.AllRule)
	}
	if r, depth := p.unixSockets.deepest(path); depth >= 0 {
		return allowed(r.Rule)
	}
	d := denied(event.NotAllowed, p.fallback("network.allowUnixSockets", ruleUnixSocket))
	if !p.secret(path) {
		d.Fix = fixPath("network.allowUnixSockets", "", path)
	}
	return d
}
