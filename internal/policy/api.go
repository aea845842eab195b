package policy

import (
	"net/netip"

	"github.com/sallyport/sallyport/internal/event"
)

// Env is what a policy knows of the user and the run: absolute paths, and the
// addresses of this host. It is input, never looked up here.
type Env struct {
	Home, Cwd string
	ConfigDir string // $XDG_CONFIG_HOME/sallyport
	StateDir  string // $XDG_STATE_HOME/sallyport
	CacheDir  string // $XDG_CACHE_HOME/sallyport
	// RuntimeDir is $XDG_RUNTIME_DIR.
	RuntimeDir string
	Exe        string // the sallyport binary
	HostAddrs  []netip.Addr
}

// Source is one policy file's bytes.
type Source struct {
	Name string // as shown in rules and errors
	Data []byte
	Dir  string // base for relative paths; "" = Env.Cwd
}

// File is one parsed policy file.
type File struct{ name string }

// Parse reads one policy file, strictly. The error is an Errors that lists
// every problem.
func Parse(src Source) (*File, error) { return &File{name: src.Name}, nil }

// Flag is one policy flag of the command line, for example
// {"--allow-domain", "example.com"}.
type Flag struct{ Name, Value string }

// Flags are the policy flags in the order given.
type Flags []Flag

// FromFlags makes a file named "command line" of flags; a rule's line is the
// flag's place among them.
func FromFlags(f Flags) *File { return &File{name: "command line"} }

// Policy is the effective policy.
type Policy struct{}

// New merges files over the built-in default.
func New(env Env, files ...*File) (*Policy, error) { return &Policy{}, nil }

// DecideNet decides a connection by name or plain address.
func (p *Policy) DecideNet(NetRequest) Decision { return Decision{} }

// DecideResolved decides an address that a permitted name resolved to.
func (p *Policy) DecideResolved(NetRequest, netip.Addr) Decision { return Decision{} }

// DecideName decides a look-up.
func (p *Policy) DecideName(Host) Decision { return Decision{} }

// DecideFile decides an operation on an absolute, clean path.
func (p *Policy) DecideFile(op event.Operation, path string) Decision { return Decision{} }

// PathRule is one path of a list, absolute and clean.
type PathRule struct {
	Path string // may hold a glob
	Glob bool
	Rule Rule
}

// ProtectedName is a path that may be written below no write root.
type ProtectedName struct {
	Path string // relative, for example ".git/hooks"
	Dir  bool
	Glob bool
	Rule Rule
}

// FileRules is what a plan needs to know of files.
type FileRules struct {
	Disabled                                   bool
	DenyRead, AllowRead, AllowWrite, DenyWrite []PathRule
	Protected                                  []ProtectedName
	ProtectedPaths                             []PathRule
	ScanDepth                                  int
}

// Files gives the rules for paths.
func (p *Policy) Files() FileRules { return FileRules{} }

// EnvRules says which variables reach the sandbox.
type EnvRules struct {
	Pass  []string // names or prefixes ending in *
	Set   map[string]string
	Unset []string
}

// Env gives the rules for the environment.
func (p *Policy) Env() EnvRules { return EnvRules{} }

// Require is what a run must have, or not start.
type Require struct {
	Tier  event.Tier
	Audit bool
	Rule  Rule
}

// Require gives the least a run must have.
func (p *Policy) Require() Require { return Require{} }

// SHA256 names the policy's bytes, in lower-case hex.
func (p *Policy) SHA256() string { return "" }

// Warning is something that is no error but hardly meant.
type Warning struct {
	Rule    Rule
	Message string
	Hint    string
}

// Warnings lists what is hardly meant.
func (p *Policy) Warnings() []Warning { return nil }

// Unbuilt is a key that is accepted but has no effect yet.
type Unbuilt struct {
	Key  string // "network.parentProxy"
	Rule Rule
	// Refuse reports that a run without it would be less safe than asked for.
	Refuse bool
	Note   string
}

// Unbuilt lists the keys without effect.
func (p *Policy) Unbuilt() []Unbuilt { return nil }

// MatchGlob reports whether a pattern covers a path.
func MatchGlob(pattern, path string) bool { return false }
