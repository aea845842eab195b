package policy

import (
	"slices"

	"github.com/goccy/go-yaml/ast"
)

// MacRules are the settings that only mean something on macOS.
type MacRules struct {
	LocalBinding   bool // allowLocalBinding: listening, on any port
	AllUnixSockets bool
	UnixSockets    []PathRule // names, never patterns
	MachLookup     []MachRule
	Trustd         bool // enableWeakerNetworkIsolation: the system's TLS verdicts
	AppleEvents    bool
	PTY            bool
}

// MachRule is a service that may be looked up.
type MachRule struct {
	Name   string
	Prefix bool // every service whose name begins so
	Rule   Rule
}

// Mac gives the rules for macOS.
func (p *Policy) Mac() MacRules { return p.mac }

func (m *merger) macOS() {
	r := &m.p.mac
	for key, v := range map[string]*bool{
		"network.allowLocalBinding":    &r.LocalBinding,
		"enableWeakerNetworkIsolation": &r.Trustd,
		"allowAppleEvents":             &r.AppleEvents,
		"allowPty":                     &r.PTY,
	} {
		for _, f := range m.files {
			if _, given := f.keys[key]; given {
				*v = !f.off[key]
			}
		}
		*v = *v && !slices.ContainsFunc(m.ceilings, func(f *File) bool { return f.off[key] })
	}
	r.AllUnixSockets = m.granted(func(f *File) *bool { return f.allUnix })
	for _, f := range m.files {
		base := m.base(f)
		if f.unixSockets != nil {
			r.UnixSockets = append(r.UnixSockets, m.resolve(literally(*f.unixSockets), base)...)
		}
		r.MachLookup = append(r.MachLookup, f.machLookup...)
	}
}

// literally takes entries as names, whatever is in them: a profile knows no
// patterns for sockets.
func literally(entries []pathEntry) []pathEntry {
	out := slices.Clone(entries)
	for i := range out {
		out[i].literal = true
	}
	return out
}

// machService takes the name of a service, or the beginning of one and a *.
func machService(w *walker, n ast.Node) {
	before := len(w.errs)
	matching(machName, "a service such as com.apple.x, or com.apple.*")(w, n)
	s, ok := n.(*ast.StringNode)
	if !ok || len(w.errs) > before {
		return
	}
	rule := MachRule{Name: s.Value, Rule: w.rule(n)}
	if last := len(rule.Name) - 1; rule.Name[last] == '*' {
		rule.Name, rule.Prefix = rule.Name[:last], true
	}
	w.file.machLookup = append(w.file.machLookup, rule)
}
