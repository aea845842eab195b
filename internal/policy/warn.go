package policy

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/sallyport/sallyport/internal/event"
)

// Warning is something that is no error but hardly meant.
type Warning struct {
	Rule    Rule
	Message string
	Hint    string
}

func (p *Policy) warning(rule Rule, hint, format string, args ...any) {
	p.warnings = append(p.warnings, Warning{rule, fmt.Sprintf(format, args...), hint})
}

// warn looks for entries that do nothing, and for lists that do more than
// they seem to.
func (p *Policy) warn(files []*File) {
	p.warnWorkDir(files)
	if p.unix.All {
		p.warning(p.unix.AllRule, "list those that are needed in network.allowUnixSockets",
			"the programs behind the host's sockets (the user's bus, an agent, docker) can act outside the sandbox for the command")
	}
	if p.parents != nil && p.parents.ByHostname {
		p.warning(p.parents.rule, "leave byHostname out if this host can resolve names",
			"the parent proxy resolves names: an allowed name may lead to a private address or to a cloud's metadata")
	}
	for _, f := range files {
		if f.allowed != nil {
			p.warnAllowed(*f.allowed)
		}
		p.warnReasons(f)
	}
	if p.files.Disabled {
		for _, f := range files {
			if f.disabled != nil && *f.disabled {
				p.warning(f.keys["filesystem.disabled"], "", "no file is protected but sallyport's own")
			}
		}
		return
	}
	p.warnSecrets(files)
	p.warnPaths()
}

// warnUntrusted says what of a project's files does not count.
func (p *Policy) warnUntrusted(files []*File) {
	for _, f := range files {
		trust := "look at it, then: sallyport policy trust " + quote(f.name)
		for _, k := range f.ignored {
			p.warning(k.rule, trust, "%s does not count: the file is not trusted", k.key)
		}
		for _, key := range slices.Sorted(maps.Keys(f.keys)) {
			if slices.Contains(wideningKeys, key) && !f.off[key] {
				p.warning(f.keys[key], trust, "what %s would open does not count: the file is not trusted", key)
			}
		}
	}
}

// Opens lists the lines of a file that open something, with the line itself.
func (f *File) Opens() []string {
	lines := strings.Split(string(f.data), "\n")
	var rules []Rule
	for key, rule := range f.keys {
		if (slices.Contains(wideningKeys, key) || slices.Contains(untrustedIgnored, key)) && !f.off[key] {
			rules = append(rules, rule)
		}
	}
	slices.SortFunc(rules, func(a, b Rule) int { return a.Line - b.Line })
	var out []string
	for i, r := range rules {
		end := r.Line // with the entries below it
		for indent := indentOf(lines[r.Line-1]); end < len(lines) && (strings.TrimSpace(lines[end]) == "" || indentOf(lines[end]) > indent ||
			indentOf(lines[end]) == indent && strings.HasPrefix(strings.TrimSpace(lines[end]), "- ")); end++ {
		}
		if i > 0 && rules[i-1].Line == r.Line {
			continue // all of it on one line
		}
		for n := r.Line; n <= end; n++ {
			if text := strings.TrimRight(lines[n-1], " \r"); text != "" {
				out = append(out, fmt.Sprintf("%s:%d: %s", f.name, n, text))
			}
		}
	}
	return out
}

func indentOf(line string) int { return len(line) - len(strings.TrimLeft(line, " ")) }

// wideningKeys open something where they hold more than nothing.
var wideningKeys = []string{
	"network.allowedDomains", "network.allowUnixSockets", "network.allowAllUnixSockets", "network.allowLocalBinding",
	"network.allowMachLookup", "network.rules", "filesystem.allowRead", "filesystem.allowWrite", "filesystem.allowGitConfig",
	"filesystem.disabled", "env.pass", "enableWeakerNestedSandbox", "allowNestedUserNamespaces",
	"enableWeakerNetworkIsolation", "allowAppleEvents", "allowPty", "ask", "git",
}

func (p *Policy) warnWorkDir(files []*File) {
	if present(files, func(f *File) *[]pathEntry { return f.allowWrite }) || p.files.Disabled {
		return
	}
	if within(p.env.Home, p.env.Cwd) {
		p.warning(builtin(ruleWorkDir), "start in a project's directory, or name one with "+FlagAllowWrite+" DIR",
			"nothing outside the sandbox can be written: the working directory %s holds the whole home directory", quote(p.env.Cwd))
	}
}

func (p *Policy) warnAllowed(entries []hostEntry) {
	seen := map[string]Rule{}
	for _, e := range entries {
		entry := e.canonical()
		if first, dup := seen[entry]; dup {
			p.warning(e.rule, "", "%s is allowed already, %s", entry, first)
			continue
		}
		seen[entry] = e.rule
		p.warnAllowedEntry(e, entry)
	}
}

func (p *Policy) warnAllowedEntry(e hostEntry, entry string) {
	h := Host{Name: e.name}
	if e.kind == hostPrefix {
		h = Host{Addr: e.prefix.Addr()}
	}
	if e.name == "localhost" || strings.HasSuffix(e.name, ".localhost") || h.Addr.IsLoopback() {
		p.warning(e.rule, "the host's ports open by hostPorts",
			"%s inside the sandbox is the sandbox itself", entry)
		return
	}
	if e.kind == hostPrefix && !e.prefix.IsSingleIP() {
		return
	}
	if e.kind == hostBelow {
		h.Name = "a." + e.name // any of them: exact denials are only holes
	}
	if d, ok := p.deniedHosts.deny(h, e.port); ok && d.kind != hostName {
		p.warning(e.rule, "denials win: take one of the two out",
			"%s is never allowed: %s denies it, %s", entry, d.canonical(), d.rule)
	} else if ok && e.kind == hostName {
		p.warning(e.rule, "denials win: take one of the two out", "%s is never allowed: it is denied, %s", entry, d.rule)
	}
}

func (p *Policy) warnReasons(f *File) {
	for _, entry := range slices.Sorted(maps.Keys(f.reasons)) {
		if !p.deniedEntries[entry] {
			r := f.reasons[entry]
			p.warning(r.rule, "add it to network.deniedDomains", "the reason for %s is never given: nothing denies it", clip(r.entry))
		}
	}
}

// warnSecrets says when a denyRead list of a file's own replaces the built-in
// one and leaves secrets readable.
func (p *Policy) warnSecrets(files []*File) {
	var open []string
	var rule Rule
	for _, f := range files {
		if r, ok := f.keys["filesystem.denyRead"]; ok {
			rule = r
		}
	}
	if rule.File == "" {
		return
	}
	for i, s := range p.secretRules() {
		if !s.Glob && p.decideRead(s.Path).Allowed() {
			open = append(open, Secrets()[i])
		}
	}
	if len(open) > 0 {
		few := strings.Join(open[:min(3, len(open))], ", ")
		p.warning(rule, "add the ones you have to denyRead",
			"this list replaces the built-in one: %d secret places can be read, %s among them", len(open), few)
	}
}

func (p *Policy) warnPaths() {
	for _, r := range p.files.AllowWrite {
		p.warnVariable(r)
		if r.Glob || r.Rule.File == "" && r.Rule.Name != ruleWorkDir {
			continue
		}
		if d := p.DecideFile(event.FileWrite, r.Path); !d.Allowed() {
			hint := ""
			if d.Reason == event.PathHidden {
				hint = "to open it add it to filesystem.allowRead as well"
			}
			p.warning(r.Rule, hint, "%s cannot be written: %s, %s", quote(r.Path), d.Reason, d.Rule)
		}
	}
	for _, r := range p.files.AllowRead {
		p.warnVariable(r)
		if r.Glob {
			continue
		}
		if _, depth := p.hidden.deepest(r.Path); depth >= 0 {
			p.warning(r.Rule, "", "%s stays hidden: it is sallyport's own", quote(r.Path))
		} else if _, depth := p.denyRead.deepest(r.Path); depth < 0 {
			p.warning(r.Rule, "", "%s opens nothing: reading it is not denied", quote(r.Path))
		}
	}
	for _, l := range [][]PathRule{p.files.DenyRead, p.files.DenyWrite} {
		for _, r := range l {
			p.warnVariable(r)
		}
	}
}

func (p *Policy) warnVariable(r PathRule) {
	if strings.Contains(r.Path, "/$") || strings.Contains(r.Path, "${") {
		p.warning(r.Rule, "variables are not expanded; ~ is", "%s holds a $ as a plain character", quote(r.Path))
	}
}

func (p *Policy) secretRules() []PathRule {
	m := &merger{env: p.env}
	return m.resolve(secretEntries(), p.env.Cwd)
}
