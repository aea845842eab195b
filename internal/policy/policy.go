package policy

import (
	"crypto/sha256"
	"encoding/hex"
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

	allowedHosts, deniedHosts *hostTable
	deniedAddrs               *hostTable
	noSNI, upgrades           *hostTable
	parents                   *ParentProxies
	deniedEntries             map[string]bool // canonical, for warnings
	own                       map[netip.Addr]bool
	strict, askable           bool
	unix                      UnixRules
	unixSockets               *pathSet

	files                 FileRules
	hidden                *pathSet // read-denied whatever allowRead says
	denyRead, allowRead   *pathSet
	allowWrite, denyWrite *pathSet
	protectedPaths        *pathSet
	secrets               *pathSet
	names                 nameMatchers
	privateDirs           []string

	environ   EnvRules
	mac       MacRules
	require   Require
	publish   []Publish
	hostPorts []HostPort
	limits    Limits
	warnings  []Warning
	unbuilt   []Unbuilt
	linuxOnly []Unbuilt
}

// New merges files over the built-in default: lists unite and denial wins, of
// single values the later counts, of requirements the stricter. A list that
// any file gives replaces the default's; flags add to what there is.
func New(env Env, files ...*File) (*Policy, error) {
	if err := env.check(); err != nil {
		return nil, err
	}
	p := &Policy{env: env, sha: hashFiles(files), own: map[netip.Addr]bool{}}
	for _, a := range env.HostAddrs {
		p.own[a.Unmap().WithZone("")] = true
	}
	m := &merger{env: env, files: files, p: p}
	m.problems()
	m.network()
	m.filesystem()
	m.environment()
	m.macOS()
	m.ports()
	m.limits()
	if err := m.errs.orNil(); err != nil {
		return nil, err
	}
	p.unbuilt, p.linuxOnly = findUnbuilt(files, unbuiltKeys), findUnbuilt(files, linuxKeys)
	p.warn(files)
	return p, nil
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
		add(f.data)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// Files gives the rules for paths.
func (p *Policy) Files() FileRules {
	f := p.files
	for _, l := range []*[]PathRule{&f.DenyRead, &f.AllowRead, &f.AllowWrite, &f.DenyWrite, &f.ProtectedPaths} {
		*l = slices.Clone(*l)
	}
	f.Protected = slices.Clone(f.Protected)
	return f
}

// Env gives the rules for the environment.
func (p *Policy) Env() EnvRules {
	e := p.environ
	e.Pass, e.Unset, e.Set = slices.Clone(e.Pass), slices.Clone(e.Unset), maps.Clone(e.Set)
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
