package policy

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
)

// ruleNoCeiling is what a ceiling says of what it has no key for.
const ruleNoCeiling = "no-ceiling"

// merger makes the parts of a Policy from files in order.
type merger struct {
	env   Env
	files []*File
	p     *Policy
	errs  Errors

	// ceilings may forbid what files switch on. ceiling and project are set where
	// the view is one of theirs.
	ceilings         []*File
	ceiling, project *File
}

// problems takes over what FromFlags could not report.
func (m *merger) problems() {
	for _, f := range m.files {
		m.errs = append(m.errs, f.errs...)
	}
}

// forbidden reports whether a ceiling says false to something.
func (m *merger) forbidden(get func(*File) *bool) bool {
	return slices.ContainsFunc(m.ceilings, func(f *File) bool {
		v := get(f)
		return v != nil && !*v
	})
}

// granted gives the last value of what is a widening, unless it is forbidden.
func (m *merger) granted(get func(*File) *bool) bool {
	v, _ := last(m.files, get)
	return v && !m.forbidden(get)
}

// open gives the entries of a ceiling's list: everything where it has none.
func open[T any](m *merger, key string, list []T, everything ...T) []T {
	if m.ceiling == nil {
		return list
	}
	if _, given := m.ceiling.keys[key]; given {
		return list
	}
	return everything
}

// present reports whether a file, not a flag, gave a list.
func present[T any](files []*File, get func(*File) *[]T) bool {
	for _, f := range files {
		if !f.flags && get(f) != nil {
			return true
		}
	}
	return false
}

func unite[T any](files []*File, get func(*File) *[]T) []T {
	var all []T
	for _, f := range files {
		if l := get(f); l != nil {
			all = append(all, *l...)
		}
	}
	return all
}

// last gives the last value that a file set.
func last[T any](files []*File, get func(*File) *T) (v T, ok bool) {
	for _, f := range files {
		if p := get(f); p != nil {
			v, ok = *p, true
		}
	}
	return v, ok
}

func (m *merger) network() {
	p := m.p
	reasons := map[string]string{}
	for _, f := range m.files {
		for entry, r := range f.reasons {
			reasons[entry] = r.text
		}
	}
	p.deniedEntries = map[string]bool{}
	denials := unite(m.files, func(f *File) *[]hostEntry { return f.denied })
	for i := range denials {
		entry := denials[i].canonical()
		denials[i].text = reasons[entry]
		p.deniedEntries[entry] = true
	}
	p.deniedHosts = newHostTable(denials)
	anyHost := []hostEntry{{kind: hostAll, rule: builtin(ruleNoCeiling)}, {kind: hostAll, port: portSMTP, rule: builtin(ruleNoCeiling)}}
	p.anyHost = m.ceiling != nil && m.ceiling.allowed == nil
	p.allowedHosts = newHostTable(open(m, keyAllowedDomains, unite(m.files, func(f *File) *[]hostEntry { return f.allowed }), anyHost...))
	p.deniedAddrs = newHostTable(unite(m.files, func(f *File) *[]hostEntry { return f.resolved }))
	p.noSNI = newHostTable(open(m, "network.rules", unite(m.files, func(f *File) *[]hostEntry { return &f.noSNI }), anyHost...))
	p.upgrades = newHostTable(open(m, "network.rules", unite(m.files, func(f *File) *[]hostEntry { return &f.upgrades }), anyHost...))
	if parents, ok := last(m.files, func(f *File) *ParentProxies { return f.parents }); ok {
		p.parents = &parents
	}
	p.strict, _ = last(m.files, func(f *File) *bool { return f.strict })
	m.unixSockets()
	m.asking()
}

func (m *merger) unixSockets() {
	u := &m.p.unix
	u.Sockets = m.list(func(f *File) *[]pathEntry { return f.unixSockets }, nil)
	m.p.unixSockets = newPathSet(u.Sockets)
	for _, f := range m.files {
		if f.allUnix != nil {
			u.AllRule = f.keys["network.allowAllUnixSockets"]
		}
	}
	u.All = m.granted(func(f *File) *bool { return f.allUnix })
	if m.ceiling != nil && m.ceiling.unixSockets == nil {
		u.All, u.AllRule = true, builtin(ruleNoCeiling)
	}
}

// filesystem makes the rules for files; whole are all files of the policy,
// which the sandbox must not touch.
func (m *merger) filesystem(whole []*File) {
	p, r := m.p, &m.p.files
	p.secrets = newPathSet(m.resolve(secretEntries(), m.env.Cwd))
	r.Disabled = m.granted(func(f *File) *bool { return f.disabled })
	// What a project hides it hides besides: its list is no reason to open the
	// user's secrets.
	hides := func(f *File) *[]pathEntry { return f.denyRead }
	var hidden []pathEntry
	if !present(slices.DeleteFunc(slices.Clone(m.files), func(f *File) bool { return f.layer.ofProject() }), hides) {
		hidden = m.defaultHidden()
	}
	var credentials []PathRule
	for _, f := range m.files { // besides any list
		credentials = append(credentials, m.resolve(f.credentials, m.base(f))...)
	}
	protected, own := ownPaths(m.env, whole)
	r.DenyRead = slices.Concat(own, m.resolve(hidden, m.env.Cwd), m.list(hides, nil), credentials)
	r.AllowRead = m.list(func(f *File) *[]pathEntry { return f.allowRead }, nil)
	r.AllowWrite = m.list(func(f *File) *[]pathEntry { return f.allowWrite }, m.defaultWrite())
	r.DenyWrite = m.list(func(f *File) *[]pathEntry { return f.denyWrite }, nil)
	if m.ceiling == nil {
		r.ScanDepth = defaultScanDepth
	}
	if n, ok := last(m.files, func(f *File) *int { return f.scanDepth }); ok {
		r.ScanDepth = n
	}
	if !r.Disabled && m.ceiling == nil {
		r.Protected = protectedNames(m.granted(func(f *File) *bool { return f.gitConfig }))
	}
	p.names = newNameMatchers(r.Protected)

	r.ProtectedPaths = protected
	p.protectedPaths = newPathSet(protected)
	p.hidden = newPathSet(own)
	p.denyRead, p.allowRead = newPathSet(r.DenyRead[len(own):]), newPathSet(r.AllowRead)
	p.allowWrite, p.denyWrite = newPathSet(r.AllowWrite), newPathSet(r.DenyWrite)
	p.hiddenRules = own

	p.privateDirs = []string{"/tmp", "/run", "/dev"}
	if m.env.RuntimeDir != "" {
		p.privateDirs = append(p.privateDirs, m.env.RuntimeDir)
	}
}

// list unites one list of paths; fallback stands in where no file gives it.
func (m *merger) list(get func(*File) *[]pathEntry, fallback []pathEntry) []PathRule {
	var rules []PathRule
	if !present(m.files, get) {
		rules = m.resolve(fallback, m.env.Cwd)
	}
	for _, f := range m.files {
		if l := get(f); l != nil {
			if more := m.resolve(*l, m.base(f)); rules == nil {
				rules = more
			} else {
				rules = append(rules, more...)
			}
		}
	}
	return rules
}

// base is where a file's relative paths start.
func (m *merger) base(f *File) string {
	if f.dir == "" {
		return m.env.Cwd
	}
	return f.dir
}

func (m *merger) resolve(entries []pathEntry, base string) []PathRule {
	rules := make([]PathRule, 0, len(entries))
	for _, e := range entries {
		r, err := resolvePath(e, base, m.env.Home)
		if err != nil {
			m.errs = append(m.errs, &Error{File: e.rule.File, Line: e.rule.Line,
				Message: err.Error(), Hint: hintOf(err)})
			continue
		}
		rules = append(rules, r)
	}
	return rules
}

func (m *merger) environment() {
	env := EnvRules{Pass: defaultPass(), Set: map[string]string{}}
	if m.ceiling != nil {
		env.Pass = nil
	}
	for _, f := range m.files {
		env.Pass = append(env.Pass, f.pass...)
		env.Unset = append(env.Unset, f.unset...)
		maps.Copy(env.Set, f.set)
		if f.require.Tier > m.p.require.Tier {
			m.p.require.Tier, m.p.require.TierRule = f.require.Tier, f.require.TierRule
		}
		if f.require.Audit && !m.p.require.Audit {
			m.p.require.Audit, m.p.require.AuditRule = true, f.require.AuditRule
		}
	}
	m.safeDirectories(env.Set)
	m.p.environ = env
}

// safeDirectories tells git of directories that belong to others and may be
// used all the same, by the environment alone (git-config(1)).
func (m *merger) safeDirectories(set map[string]string) {
	n := 0
	for _, f := range m.files {
		for _, r := range m.resolve(f.safeDirs, m.base(f)) {
			set[fmt.Sprintf("GIT_CONFIG_KEY_%d", n)], set[fmt.Sprintf("GIT_CONFIG_VALUE_%d", n)] = "safe.directory", r.Path
			n++
		}
		m.p.ignores = append(m.p.ignores, f.ignores...)
	}
	if n > 0 {
		set["GIT_CONFIG_COUNT"] = strconv.Itoa(n)
	}
}
