package policy

import "github.com/goccy/go-yaml/ast"

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
		"network.allowAllUnixSockets":  &r.AllUnixSockets,
		"enableWeakerNetworkIsolation": &r.Trustd,
		"allowAppleEvents":             &r.AppleEvents,
		"allowPty":                     &r.PTY,
	} {
		for _, f := range m.files {
			if _, given := f.keys[key]; given {
				*v = !f.off[key]
			}
		}
	}
	for _, f := range m.files {
		base := f.dir
		if base == "" {
			base = m.env.Cwd
		}
		r.UnixSockets = append(r.UnixSockets, m.resolve(f.unixSockets, base)...)
		r.MachLookup = append(r.MachLookup, f.machLookup...)
	}
}

// unixSocket takes the path of a socket: a name, whatever is in it.
func unixSocket(w *walker, n ast.Node) {
	before := len(w.errs)
	checked(checkPath)(w, n)
	if s, ok := n.(*ast.StringNode); ok && len(w.errs) == before {
		w.file.unixSockets = append(w.file.unixSockets, pathEntry{path: s.Value, literal: true, rule: w.rule(n)})
	}
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
