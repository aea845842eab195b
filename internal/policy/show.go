package policy

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Line is one line of the effective policy as YAML, and where it comes from.
type Line struct {
	Text string
	// Source is "path:line" or "builtin:NAME"; empty where the line only opens
	// what follows.
	Source string
	// Dead says that a layer above takes the entry away: it is shown as a comment.
	Dead bool
}

// Lines gives the effective policy, each value with its source: what the layers
// make together, so that the text alone is a policy which decides the same.
func (p *Policy) Lines() []Line {
	l := &liner{p: p, shown: map[string]bool{}}
	l.network()
	l.filesystem()
	l.environment()
	l.requirements()
	l.asking()
	l.ports()
	l.limits()
	l.rest()
	return l.out
}

type liner struct {
	p     *Policy
	out   []Line
	shown map[string]bool // keys
}

func (l *liner) line(source, format string, args ...any) {
	l.out = append(l.out, Line{Text: fmt.Sprintf(format, args...), Source: source})
}

// list shows a key and its entries.
func (l *liner) list(key string, entries []Line) {
	l.shown[key] = true
	_, name, _ := strings.Cut(key, ".")
	given, source := l.given(key)
	alive := slices.ContainsFunc(entries, func(e Line) bool { return !e.Dead })
	switch {
	case !given && len(entries) == 0:
		return
	case !alive:
		l.line(source, "  %s: []", name)
	default:
		l.line("", "  %s:", name)
	}
	for _, e := range entries {
		e.Text = "    - " + e.Text
		l.out = append(l.out, e)
	}
}

// given finds the last file that has a key.
func (l *liner) given(key string) (ok bool, source string) {
	for _, f := range l.p.everyFile() {
		if r, has := f.keys[key]; has {
			ok, source = true, r.String()
		}
	}
	return ok, source
}

// scalar shows a value if a file gives it.
func (l *liner) scalar(key string, value any) {
	l.shown[key] = true
	if ok, source := l.given(key); ok {
		indent, name := "  ", key[strings.LastIndexByte(key, '.')+1:]
		if name == key {
			indent = ""
		}
		l.line(source, "%s%s: %v", indent, name, value)
	}
}

func (l *liner) network() {
	p := l.p
	l.line("", "network:")
	if hosts := p.allowedLines(); len(hosts) > 0 {
		l.list(keyAllowedDomains, hosts)
	} else {
		_, source := l.given(keyAllowedDomains)
		if source == "" {
			source = builtin(ruleDefaultDeny).String()
		}
		l.shown[keyAllowedDomains] = true
		l.line(source, "  allowedDomains: []")
	}
	denied := p.everyHost(func(f *File) *[]hostEntry { return f.denied })
	l.list("network.deniedDomains", hostLines(denied))
	l.reasons()
	l.list("network.deniedResolvedAddresses", hostLines(p.everyHost(func(f *File) *[]hostEntry { return f.resolved })))
	l.scalar("network.strictAllowlist", p.strict)
	l.list("network.allowUnixSockets", ruleLines(p.sockets.Sockets))
	l.scalar("network.allowAllUnixSockets", p.sockets.All)
	l.scalar("network.allowLocalBinding", p.mac.LocalBinding)
	l.machLookup()
	l.rules()
	l.authorizer()
}

func (l *liner) reasons() {
	l.shown["network.deniedDomainReasons"] = true
	first := true
	for _, f := range l.p.everyFile() {
		for _, entry := range slices.Sorted(maps.Keys(f.reasons)) {
			if first {
				l.line("", "  deniedDomainReasons:")
			}
			first = false
			l.line(f.reasons[entry].rule.String(), "    %s: %s", quote(entry), quote(f.reasons[entry].text))
		}
	}
}

func (l *liner) machLookup() {
	var list []Line
	for _, r := range l.p.mac.MachLookup {
		name := r.Name
		if r.Prefix {
			name += "*"
		}
		list = append(list, Line{Text: quote(name), Source: r.Rule.String()})
	}
	l.list("network.allowMachLookup", list)
}

// rules shows those of network.rules that every view agrees to.
func (l *liner) rules() {
	l.shown["network.rules"] = true
	var list []Line
	for _, kind := range []struct {
		word string
		get  func(*File) []hostEntry
	}{{"noSNI", func(f *File) []hostEntry { return f.noSNI }}, {"upgrade", func(f *File) []hostEntry { return f.upgrades }}} {
		for _, f := range l.p.counted {
			for _, e := range kind.get(f) {
				port := ""
				if e.port != 0 {
					port = fmt.Sprintf("port: %d, ", e.port)
				}
				e.port = 0
				list = append(list, Line{Text: fmt.Sprintf("{host: %s, %s%s: allow}", quote(e.canonical()), port, kind.word), Source: e.rule.String(),
					Dead: l.p.bounds("network.rules")})
			}
		}
	}
	l.list("network.rules", list)
}

// bounds reports whether a ceiling has a key.
func (p *Policy) bounds(key string) bool {
	return slices.ContainsFunc(p.within, func(v *Policy) bool {
		if v.ceiling == nil {
			return false
		}
		_, given := v.ceiling.keys[key]
		return given
	})
}

func (l *liner) filesystem() {
	f := l.p.lists
	l.line("", "filesystem:")
	l.scalar("filesystem.disabled", f.Disabled)
	l.list("filesystem.denyRead", ruleLines(f.DenyRead))
	l.list("filesystem.allowRead", ruleLines(f.AllowRead))
	l.list("filesystem.allowWrite", append(ruleLines(f.AllowWrite), l.p.deadWrites()...))
	l.list("filesystem.denyWrite", ruleLines(f.DenyWrite))
	l.scalar("filesystem.allowGitConfig", !slices.ContainsFunc(f.Protected, func(n ProtectedName) bool { return n.Path == ".git/config" }))
	l.scalar("mandatoryDenySearchDepth", f.ScanDepth)
}

// deadWrites are the entries of the user's that no list holds any more.
func (p *Policy) deadWrites() []Line {
	var out []Line
	for _, r := range ruleLines(p.lists.Points) {
		r.Dead = true
		out = append(out, r)
	}
	return out
}

func (l *liner) environment() {
	e := l.p.environ
	var pass, unset []Line
	own := len(defaultPass())
	for i, name := range e.Pass {
		if i < own && matchName(defaultPass(), name) {
			continue
		}
		pass = append(pass, Line{Text: quote(name), Source: l.envSource("pass", name), Dead: e.Withholds(name)})
	}
	for _, name := range slices.Concat(e.Unset, e.Never) {
		unset = append(unset, Line{Text: quote(name), Source: l.envSource("unset", name)})
	}
	keys := len(l.out)
	l.line("", "env:")
	l.list("env.pass", pass)
	l.list("env.unset", unset)
	l.shown["env.set"] = true
	if len(e.Set) > 0 {
		l.line("", "  set:")
	}
	for _, name := range slices.Sorted(maps.Keys(e.Set)) {
		value := quote(e.Set[name])
		if secretName(name) {
			value = "'***'" // output ends in logs
		}
		l.out = append(l.out, Line{Text: "    " + name + ": " + value, Source: l.envSource("set", name), Dead: e.Withholds(name)})
	}
	if len(l.out) == keys+1 {
		l.out = l.out[:keys]
	}
}

func (l *liner) envSource(key, name string) string {
	source := ""
	for _, f := range l.p.everyFile() {
		if r, ok := f.envRules[key+" "+name]; ok {
			source = r.String()
		}
	}
	return source
}

func (l *liner) requirements() {
	r := l.p.require
	l.shown["require.tier"], l.shown["require.audit"] = true, true
	if r.Tier == 0 && !r.Audit {
		return
	}
	l.line("", "require:")
	if r.Tier != 0 {
		l.line(r.TierRule.String(), "  tier: %s", r.Tier)
	}
	if r.Audit {
		l.line(r.AuditRule.String(), "  audit: true")
	}
}

// ports shows what is open across the boundary.
func (l *liner) ports() {
	var published, hosts []Line
	for _, r := range l.p.publish {
		published = append(published, Line{Text: fmt.Sprintf(`  - "%s:%d"`, r.Host, r.Port), Source: r.Rule.String()})
	}
	for _, r := range l.p.hostPorts {
		hosts = append(hosts, Line{Text: fmt.Sprintf("  - %d", r.Port), Source: r.Rule.String()})
	}
	for _, list := range []struct {
		key   string
		lines []Line
	}{{"publish", published}, {"hostPorts", hosts}} {
		l.shown[list.key] = true
		if given, source := l.given(list.key); len(list.lines) > 0 {
			l.line("", "%s:", list.key)
			l.out = append(l.out, list.lines...)
		} else if given {
			l.line(source, "%s: []", list.key)
		}
	}
}

// limits shows the least of what the layers say.
func (l *liner) limits() {
	of := l.p.limits
	for _, key := range []string{"memory", "pids", "cpu", "time"} {
		l.shown["limits."+key] = true
	}
	l.shown["limits"] = true
	if len(of.Rules) == 0 {
		return
	}
	l.line("", "limits:")
	for _, v := range []struct {
		key   string
		value any
		set   bool
	}{{"memory", of.Memory, of.Memory > 0}, {"pids", of.PIDs, of.PIDs > 0}, {"cpu", of.CPU, of.CPU > 0}, {"time", of.Time, of.Time > 0}} {
		if v.set {
			l.line(of.Rules["limits."+v.key].String(), "  %s: %v", v.key, v.value)
		}
	}
}

// rest names every other key that is given, with its source.
func (l *liner) rest() {
	for _, f := range l.p.everyFile() {
		for _, key := range slices.Sorted(maps.Keys(f.keys)) {
			if !l.shown[key] && !hasBelow(f.keys, key) {
				l.out = append(l.out, Line{Text: key + ": as it is there", Source: f.keys[key].String(), Dead: true})
			}
		}
	}
}

// hasBelow reports whether a key is a mapping of which others are shown.
func hasBelow(keys map[string]Rule, key string) bool {
	for k := range keys {
		if strings.HasPrefix(k, key+".") {
			return true
		}
	}
	return key == "network" || key == "filesystem" || key == "env" || key == "require"
}

// everyFile gives the files from the highest layer down.
func (p *Policy) everyFile() []*File {
	var files []*File
	for _, v := range p.within {
		if v.ceiling != nil {
			files = append(files, v.ceiling)
		}
	}
	files = append(files, p.counted...)
	for _, v := range p.within {
		if v.project != nil {
			files = append(files, v.project)
		}
	}
	return files
}

func (p *Policy) everyHost(get func(*File) *[]hostEntry) []hostEntry {
	seen := map[string]bool{}
	var all []hostEntry
	for _, e := range unite(p.everyFile(), get) {
		if c := e.canonical(); !seen[c] {
			seen[c] = true
			all = append(all, e)
		}
	}
	return all
}

func hostLines(entries []hostEntry) []Line {
	var out []Line
	for _, e := range entries {
		out = append(out, Line{Text: quote(e.canonical()), Source: e.rule.String()})
	}
	return out
}

func ruleLines(rules []PathRule) []Line {
	var out []Line
	var each ruleSet
	each.add(rules...)
	for _, r := range each.rules {
		text := quote(r.Path)
		if !r.Glob && isPattern(r.Path) {
			text = "{path: " + text + ", literal: true}"
		}
		out = append(out, Line{Text: text, Source: r.Rule.String()})
	}
	return out
}

// allowedLines gives the hosts that every layer allows, and what of the user's a
// ceiling took away.
func (p *Policy) allowedLines() []Line {
	var kept, dead []hostEntry
	seen := map[string]bool{}
	for _, e := range unite(p.counted, func(f *File) *[]hostEntry { return f.allowed }) {
		met := []hostEntry{e}
		for _, v := range p.within {
			if v.ceiling != nil && v.ceiling.allowed != nil {
				met = meetHosts(met, *v.ceiling.allowed)
			}
		}
		if len(met) == 0 {
			dead = append(dead, e)
		}
		for _, m := range met {
			if c := m.canonical(); !seen[c] {
				seen[c] = true
				kept = append(kept, m)
			}
		}
	}
	out := hostLines(kept)
	for _, line := range hostLines(dead) {
		line.Dead = true
		out = append(out, line)
	}
	return out
}

// meetHosts gives what both lists allow.
func meetHosts(list, above []hostEntry) []hostEntry {
	var out []hostEntry
	for _, e := range list {
		for _, a := range above {
			if m, ok := e.meet(a); ok {
				out = append(out, m)
			}
		}
	}
	return out
}

// meet gives the entry for what two of them match both. Its rule is that of the
// narrower.
func (e hostEntry) meet(o hostEntry) (hostEntry, bool) {
	m := e
	switch {
	case e.holdsHost(o) && !o.holdsHost(e):
		m = o
	case !o.holdsHost(e):
		return m, false
	}
	switch {
	case e.port == o.port:
		m.port = e.port
	case e.port == 0 && o.port != portSMTP:
		m.port, m.rule = o.port, o.rule
	case o.port == 0 && e.port != portSMTP:
		m.port = e.port
	default:
		return m, false
	}
	return m, true
}

// holdsHost reports whether every host of another entry is one of this.
func (e hostEntry) holdsHost(o hostEntry) bool {
	switch {
	case e.kind == hostAll:
		return true
	case e.kind == hostPrefix:
		return o.kind == hostPrefix && e.prefix.Bits() <= o.prefix.Bits() && e.prefix.Contains(o.prefix.Addr())
	case e.kind == hostName:
		return o.kind == hostName && e.name == o.name
	}
	below := strings.HasSuffix(o.name, "."+e.name)
	return o.kind == hostName && below || o.kind == hostBelow && (below || o.name == e.name)
}
