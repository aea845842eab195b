package policy

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
)

// Env is what a policy knows of the user and the run: absolute paths, and the
// addresses of this host. It is input, never looked up here.
type Env struct {
	Home, Cwd  string
	ConfigDir  string // $XDG_CONFIG_HOME/sallyport
	StateDir   string // $XDG_STATE_HOME/sallyport
	CacheDir   string // $XDG_CACHE_HOME/sallyport
	RuntimeDir string // $XDG_RUNTIME_DIR
	Exe        string // the sallyport binary
	HostAddrs  []netip.Addr
}

func (e Env) check() error {
	for _, d := range []struct{ name, path string }{{"home directory", e.Home},
		{"working directory", e.Cwd}} {
		if !cleanAbs(d.path) {
			return fmt.Errorf("make policy: %s %q is not an absolute path", d.name, d.path)
		}
	}
	for _, d := range []string{e.ConfigDir, e.StateDir, e.CacheDir, e.RuntimeDir, e.Exe} {
		if d != "" && !cleanAbs(d) {
			return fmt.Errorf("make policy: %q is not an absolute path", d)
		}
	}
	return nil
}

// Policy is the effective policy: what files and flags make of the built-in
// default. It does not change and may be used by many at once.
type Policy struct {
	env Env
	sha string

	// within are the views that have to agree; of those, one of the two after
	// says what they are made for. hostViews are those asked about hosts: others,
	// once the rules for hosts alone were replaced.
	within    []*Policy
	hostViews []*Policy
	counted   []*File // what the first view is made of
	ceiling   *File
	project   *File
	// lists and sockets are what the views make together.
	lists   FileRules
	sockets UnixRules

	anyHost                   bool // a ceiling that says nothing of hosts
	allowedHosts, deniedHosts *hostTable
	deniedAddrs               *hostTable
	noSNI, upgrades           *hostTable
	parents                   *ParentProxies
	deniedEntries             map[string]bool // canonical, for warnings
	own                       map[netip.Addr]bool
	strict                    bool
	ask                       AskRules
	authorizer                *Authorizer
	unix                      UnixRules
	unixSockets               *pathSet

	files                 FileRules
	hidden                *pathSet // read-denied whatever allowRead says
	hiddenRules           []PathRule
	denyRead, allowRead   *pathSet
	allowWrite, denyWrite *pathSet
	protectedPaths        *pathSet
	secrets               *pathSet
	names                 nameMatchers
	privateDirs           []string

	environ   EnvRules
	ignores   []ignored
	mac       MacRules
	require   Require
	audit     AuditRules
	publish   []Publish
	hostPorts []HostPort
	limits    Limits
	linuxOnly []Unbuilt
	warnings  []Warning
	unbuilt   []Unbuilt
}

// New merges files over the built-in default: lists unite and denial wins, of
// single values the later counts, of requirements the stricter. A list that
// any file gives replaces the default's; flags add to what there is. What a
// file's Layer does not let it widen, it only narrows.
func New(env Env, files ...*File) (*Policy, error) {
	if err := env.check(); err != nil {
		return nil, err
	}
	counted, untrusted, ceilings := split(files)
	p, err := newView(env, files, merger{files: counted, ceilings: ceilings})
	var problems Errors
	add := func(v *Policy, err error) {
		var found Errors
		if errors.As(err, &found) {
			problems = append(problems, found...)
		}
		p.within = append(p.within, v)
	}
	if err != nil {
		return nil, err
	}
	for _, f := range ceilings {
		add(newView(env, files, merger{files: []*File{f}, ceiling: f}))
	}
	for _, f := range untrusted {
		add(newView(env, files, merger{files: append(slices.Clone(counted), f), ceilings: ceilings, project: f}))
	}
	if err := problems.orNil(); err != nil {
		return nil, err
	}
	p.sha, p.counted = hashFiles(files), counted
	p.hostViews = p.within
	p.audit = mergeAudit(append(slices.Clone(counted), ceilings...)) // whose word is the last
	p.combine()
	all := append(slices.Clone(ceilings), append(counted, untrusted...)...)
	p.unbuilt, p.linuxOnly = findUnbuilt(all, unbuiltKeys), findUnbuilt(all, linuxKeys)
	p.combineOnce(counted, untrusted, ceilings)
	p.warn(counted)
	p.warnUntrusted(untrusted)
	return p, nil
}

// newView makes one view; whole are all files of the policy.
func newView(env Env, whole []*File, m merger) (*Policy, error) {
	p := &Policy{env: env, own: map[netip.Addr]bool{}, ceiling: m.ceiling, project: m.project}
	for _, a := range env.HostAddrs {
		p.own[a.Unmap().WithZone("")] = true
	}
	m.env, m.p = env, p
	m.problems()
	m.network()
	m.filesystem(whole)
	m.environment()
	m.macOS()
	return p, m.errs.orNil()
}

// hashFiles names the bytes a policy is made of, the default's among them.
func hashFiles(files []*File) string {
	h := sha256.New()
	add := func(b []byte) {
		fmt.Fprintf(h, "%d\n", len(b))
		h.Write(b)
	}
	add([]byte(secretsText))
	for _, f := range files {
		if f.layer != LayerOwn {
			add([]byte(f.layer.String()))
		}
		add(f.data)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// Files gives the rules for paths.
func (p *Policy) Files() FileRules {
	f := p.lists
	for _, l := range []*[]PathRule{&f.DenyRead, &f.AllowRead, &f.AllowWrite, &f.DenyWrite, &f.ProtectedPaths, &f.Points} {
		*l = slices.Clone(*l)
	}
	f.Protected = slices.Clone(f.Protected)
	return f
}

// Env gives the rules for the environment.
func (p *Policy) Env() EnvRules {
	e := p.environ
	e.Pass, e.Unset, e.Set = slices.Clone(e.Pass), slices.Clone(e.Unset), maps.Clone(e.Set)
	e.Never, e.Only = slices.Clone(e.Never), slices.Clone(e.Only)
	return e
}

// Require gives the least that a run must have.
func (p *Policy) Require() Require { return p.require }

// SHA256 names the bytes the policy was made of, in lower-case hex.
func (p *Policy) SHA256() string { return p.sha }

// Warnings lists what is no error but hardly meant, in the order of the files.
func (p *Policy) Warnings() []Warning { return slices.Clone(p.warnings) }

// LinuxOnly lists the keys that have an effect on Linux alone.
func (p *Policy) LinuxOnly() []Unbuilt { return slices.Clone(p.linuxOnly) }

// Unbuilt lists the keys that have no effect yet.
func (p *Policy) Unbuilt() []Unbuilt { return slices.Clone(p.unbuilt) }
