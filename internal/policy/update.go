package policy

import (
	"reflect"
	"slices"
)

// Fixed names, in order, the keys of which next says something else than p, and
// of which a sandbox that runs under p is built: they wait for another.
func (p *Policy) Fixed(next *Policy) (keys []string) {
	was, is := p.atStart(), next.atStart()
	for key, v := range was {
		if !reflect.DeepEqual(v, is[key]) {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return keys
}

// atStart is what a sandbox is built of, by key: what the rules say, not where
// they stand.
func (p *Policy) atStart() map[string]any {
	files, unix := p.Files(), p.Unix()
	return map[string]any{
		"filesystem.disabled":          files.Disabled,
		"filesystem.denyRead":          bareRules(files.DenyRead),
		"filesystem.allowRead":         bareRules(files.AllowRead),
		"filesystem.allowWrite":        bareRules(files.AllowWrite),
		"filesystem.denyWrite":         bareRules(files.DenyWrite),
		"filesystem.allowGitConfig":    len(files.Protected),
		"mandatoryDenySearchDepth":     files.ScanDepth,
		"network.allowUnixSockets":     bareRules(unix.Sockets),
		"network.allowAllUnixSockets":  unix.All,
		"network.allowLocalBinding":    p.mac.LocalBinding,
		"network.allowMachLookup":      bare(p.mac.MachLookup, func(r *MachRule) *Rule { return &r.Rule }),
		"enableWeakerNetworkIsolation": p.mac.Trustd,
		"allowAppleEvents":             p.mac.AppleEvents,
		"allowPty":                     p.mac.PTY,
		"env.pass":                     p.environ.Pass,
		"env.unset":                    append([]string{}, p.environ.Unset...),
		"env.set":                      p.environ.Set,
		"publish":                      bare(p.publish, func(r *Publish) *Rule { return &r.Rule }),
		"hostPorts":                    bare(p.hostPorts, func(r *HostPort) *Rule { return &r.Rule }),
		"limits":                       Limits{Memory: p.limits.Memory, PIDs: p.limits.PIDs, CPU: p.limits.CPU, Time: p.limits.Time},
		"ask.via":                      append([]string{}, p.ask.Via...),
		"ask.timeout":                  p.ask.Timeout,
		"network.authorizer":           p.authorizer,
		"audit":                        p.audit,
		"require.tier":                 p.require.Tier,
		"require.audit":                p.require.Audit,
	}
}

// bareRules are the rules' own words. A policy's own files are hidden by every
// policy; another file's name is no change of a rule.
func bareRules(rules []PathRule) []PathRule {
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

// bare are rules without where they stand.
func bare[T any](rules []T, where func(*T) *Rule) []T {
	out := append([]T{}, rules...) // empty and absent are the same
	for i := range out {
		*where(&out[i]) = Rule{}
	}
	return out
}
