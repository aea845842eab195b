package plan

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/sallyport/sallyport/internal/event"
	"github.com/sallyport/sallyport/internal/policy"
)

// UnixSocket is a socket of the host, or a directory of sockets, that the
// policy lists and the sandbox sees. The payload cannot put another in its
// place: it lies where the payload may not write, or is a mount of its own.
type UnixSocket struct {
	Path string
	Rule policy.Rule
}

// addUnixSockets makes listed sockets visible under their own path, where a
// private or a hidden directory would cover them, and irreplaceable where the
// payload may write.
func (m *mounter) addUnixSockets(u policy.UnixRules) error {
	for _, rule := range u.Sockets {
		names, err := m.r.expand(rule)
		if err != nil {
			return fmt.Errorf("%s: %w", rule.Rule, err)
		}
		for _, name := range names {
			if d := m.policy.DecideUnix(name); !d.Allowed() {
				m.note("%s: %s cannot be reached: %s", rule.Rule, name, d.Rule)
				continue
			}
			m.addUnixSocket(name, rule.Rule)
		}
	}
	return nil
}

func (m *mounter) addUnixSocket(name string, rule policy.Rule) {
	real, mode, err := m.r.real(name)
	if errors.Is(err, fs.ErrNotExist) && m.above(real) == ReadOnly {
		m.unix = append(m.unix, UnixSocket{real, rule}) // it may come up during the run
		return
	}
	switch {
	case err != nil:
		m.note("%s: %s does not exist: it cannot be reached", rule, name)
		return
	case mode&fs.ModeSocket == 0 && !mode.IsDir():
		m.note("%s: %s is no socket", rule, name)
		return
	case mode.IsDir() && !m.foreign(real):
		m.note("%s: %s is the sandbox's own, or the command may write there: name the sockets in it", rule, name)
		return
	}
	m.put(point{name: name, real: real, dir: mode.IsDir(), listed: true, access: ReadOnly, rule: rule})
	if m.points[real].access == Hidden {
		m.note("%s: %s is hidden by %s", rule, name, m.points[real].rule)
		return
	}
	m.unix = append(m.unix, UnixSocket{real, rule})
}

// foreign reports whether all that will be in a directory is the host's.
func (m *mounter) foreign(dir string) bool {
	if dir == "/" || dir == privateOf(dir) || m.above(dir) == ReadWrite || m.runtimeDir != "" && below(m.runtimeDir, dir) {
		return false
	}
	for real, p := range m.points {
		if below(real, dir) && (p.access == ReadWrite || p.access == Private) {
			return false
		}
	}
	return true
}

// planUnix chooses how connections to unix sockets are kept in.
func (p *Plan) planUnix(listed []UnixSocket) {
	switch {
	case p.policy.Unix().All:
		p.Seccomp, p.UnixSockets = openUnixSeccomp(), listed
	case p.Caps.CopySockets:
		p.Seccomp, p.UnixSockets = DefaultSeccomp(), listed
	default:
		p.Seccomp = closedUnixSeccomp()
		p.Notes = append(p.Notes, "unix sockets are refused: this kernel, its kernel.yama.ptrace_scope=3 or an outer filter keeps sallyport "+
			"from looking at them (network.allowAllUnixSockets lets them pass unseen)")
	}
}

// DecideUnix decides a connection to a socket of the host that the payload
// found at a path without links. What the policy lists but the payload could
// have put there is refused.
func (p *Plan) DecideUnix(path string) policy.Decision {
	for _, s := range p.UnixSockets {
		if below(path, s.Path) {
			return policy.Decision{Verdict: event.Allow, Reason: event.RuleAllowed, Rule: s.Rule}
		}
	}
	d := p.policy.DecideUnix(path)
	if d.Allowed() && !p.policy.Unix().All {
		return policy.Decision{Reason: event.NotAllowed, Rule: d.Rule, Text: "it was not there when the sandbox started"}
	}
	return d
}

func (s UnixSocket) String() string { return s.Path + " (" + s.Rule.String() + ")" }
