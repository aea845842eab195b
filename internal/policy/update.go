package policy

import (
	"reflect"
	"slices"
)

// Update gives what p becomes when next takes its place while a sandbox runs:
// next's rules for hosts, and everything else as it was at the start. fixed
// names the keys of which next says something else, in order.
func (p *Policy) Update(next *Policy) (updated *Policy, fixed []string) {
	was, is := p.atStart(), next.atStart()
	for key, v := range was {
		if !reflect.DeepEqual(v, is[key]) {
			fixed = append(fixed, key)
		}
	}
	slices.Sort(fixed)
	u := *p
	u.sha = next.sha
	u.allowedHosts, u.deniedHosts, u.deniedAddrs = next.allowedHosts, next.deniedHosts, next.deniedAddrs
	u.noSNI, u.upgrades, u.deniedEntries = next.noSNI, next.upgrades, next.deniedEntries
	u.parents, u.own = next.parents, next.own
	u.strict, u.askable = next.strict, next.askable
	u.warnings, u.unbuilt = next.warnings, next.unbuilt
	return &u, fixed
}

// atStart is what a sandbox is built of, by key: what the rules say, not where
// they stand.
func (p *Policy) atStart() map[string]any {
	return map[string]any{
		"filesystem.disabled":          p.files.Disabled,
		"filesystem.denyRead":          paths(p.files.DenyRead),
		"filesystem.allowRead":         paths(p.files.AllowRead),
		"filesystem.allowWrite":        paths(p.files.AllowWrite),
		"filesystem.denyWrite":         paths(p.files.DenyWrite),
		"filesystem.allowGitConfig":    len(p.files.Protected),
		"mandatoryDenySearchDepth":     p.files.ScanDepth,
		"network.allowUnixSockets":     paths(p.unix.Sockets),
		"network.allowAllUnixSockets":  p.unix.All,
		"network.allowLocalBinding":    p.mac.LocalBinding,
		"network.allowMachLookup":      services(p.mac.MachLookup),
		"enableWeakerNetworkIsolation": p.mac.Trustd,
		"allowAppleEvents":             p.mac.AppleEvents,
		"allowPty":                     p.mac.PTY,
		"env.pass":                     p.environ.Pass,
		"env.unset":                    append([]string{}, p.environ.Unset...),
		"env.set":                      p.environ.Set,
		"publish":                      published(p.publish),
		"hostPorts":                    hostPorts(p.hostPorts),
		"limits":                       Limits{Memory: p.limits.Memory, PIDs: p.limits.PIDs, CPU: p.limits.CPU, Time: p.limits.Time},
		"require.tier":                 p.require.Tier,
		"require.audit":                p.require.Audit,
	}
}

// paths are the rules' own words. A policy's own files are hidden by every
// policy; another file's name is no change of a rule.
func paths(rules []PathRule) []PathRule {
	out := []PathRule{}
	for _, r := range rules {
		if r.Final {
			continue
		}
		r.Rule = Rule{}
		out = append(out, r)
	}
	return out
}

func published(rules []Publish) []Publish {
	out := []Publish{}
	for _, r := range rules {
		r.Rule = Rule{}
		out = append(out, r)
	}
	return out
}

func hostPorts(rules []HostPort) []HostPort {
	out := []HostPort{}
	for _, r := range rules {
		r.Rule = Rule{}
		out = append(out, r)
	}
	return out
}

func services(rules []MachRule) []MachRule {
	out := []MachRule{}
	for _, r := range rules {
		r.Rule = Rule{}
		out = append(out, r)
	}
	return out
}
