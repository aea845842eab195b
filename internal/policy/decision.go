// Package policy owns the rules: it parses policy files, merges them, and
// decides requests. It is pure: the same bytes and the same Env give the same
// decisions; it never looks at the file system, the network or the clock.
package policy

import (
	"fmt"
	"net/netip"

	"github.com/sallyport/sallyport/internal/event"
)

// Rule names what decided: a line of a policy file, or something built in.
type Rule struct {
	File string // as the user named it; empty for a built-in rule
	Line int    // 1-based
	Name string // of a built-in rule, for example "default-deny" or "secrets:~/.ssh"
}

// String gives "path:line" or "builtin:NAME", the form used everywhere.
func (r Rule) String() string {
	if r.File == "" {
		return "builtin:" + r.Name
	}
	return fmt.Sprintf("%s:%d", r.File, r.Line)
}

// Decision is an answer with its grounds. The zero value denies.
type Decision struct {
	Verdict event.Verdict
	Reason  event.Reason
	Rule    Rule
	// Text is for people: the policy author's own words for a denial
	// (deniedDomainReasons), or what is special about an address, or empty.
	Text string
	// Fix is the smallest policy change that would allow the request, in words
	// that can be shown or pasted; empty where nothing should be suggested.
	Fix string
	// Ask reports that nothing forbids the request and the user may be asked.
	Ask bool
	// ID is what an authorizer outside calls its decision.
	ID string
}

// Allowed reports whether the request may go on.
func (d Decision) Allowed() bool { return !d.Verdict.Denied() }

// NetRequest is a wish to reach a host: by name, or by a plain address.
type NetRequest struct {
	Host Host
	Port uint16
}

// Host is a canonical destination, made once by ParseHost and then used alike
// to match, to log, to ask and to dial: exactly one of its fields is set.
type Host struct {
	Name string     // lower-case ASCII, no trailing dot
	Addr netip.Addr // unmapped, no zone
}

// IsAddr reports whether the host is a plain address.
func (h Host) IsAddr() bool { return h.Addr.IsValid() }

func (h Host) String() string {
	if h.IsAddr() {
		return h.Addr.String()
	}
	return h.Name
}
