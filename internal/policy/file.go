package policy

import (
	"fmt"
	"time"

	"github.com/sallyport/sallyport/internal/event"
)

// File is one parsed policy file. Nil lists were absent, which is not the same
// as empty: an absent key takes the default.
type File struct {
	name  string
	paths []string // what the sandbox must not touch: the file itself
	dir   string
	data  []byte
	layer Layer
	flags bool            // the command line: adds to lists, replaces none
	keys  map[string]Rule // every key that was given, and where
	off   map[string]bool // keys given as false
	errs  Errors
	// ignored are keys that an untrusted file may not give.
	ignored []ignoredKey
	// templates are named by flags.
	templates []*File

	allowed, denied *[]hostEntry
	reasons         map[string]reasonText // canonical entry → text
	resolved        *[]hostEntry
	noSNI, upgrades []hostEntry
	parents         *ParentProxies
	strict          *bool
	unixSockets     *[]pathEntry
	allUnix         *bool
	askVia          *[]string
	askTimeout      *time.Duration
	authorizer      *Authorizer

	disabled, gitConfig *bool
	denyRead, allowRead *[]pathEntry
	allowWrite          *[]pathEntry
	denyWrite           *[]pathEntry
	scanDepth           *int
	machLookup          []MachRule

	pass, unset []string
	set         map[string]string
	credentials []pathEntry // files that are denied
	safeDirs    []pathEntry
	ignores     []ignored
	envRules    map[string]Rule // "pass NAME", "unset NAME", "set NAME" -> where
	require     Require
	publish     []Publish
	hostPorts   []HostPort
	limits      Limits
	audit       AuditRules
}

type reasonText struct {
	text, entry string
	rule        Rule
}

// pathEntry is a path as written.
type pathEntry struct {
	path    string
	literal bool
	rule    Rule
}

// Require is what a run must have, or not start.
type Require struct {
	Tier  event.Tier
	Audit bool
	// TierRule and AuditRule say who asked.
	TierRule, AuditRule Rule
}

// EnvRules says which variables reach the sandbox.
type EnvRules struct {
	Pass  []string // names, or prefixes that end in *; the built-in ones first
	Set   map[string]string
	Unset []string // like Pass; wins over it
	// Never are those that no lower layer passes or sets, each like Pass; Only,
	// where there are any, hold what may be passed: every list has to.
	Never []string
	Only  [][]string
}

func newFile(name string) *File {
	return &File{name: name, keys: map[string]Rule{}, off: map[string]bool{},
		reasons: map[string]reasonText{}, set: map[string]string{}, envRules: map[string]Rule{}}
}

// Flag is one policy flag of the command line: {"--allow-domain", "example.com"}.
type Flag struct{ Name, Value string }

// Flags are the policy flags in the order given.
type Flags []Flag

// The flags that FromFlags knows.
const (
	FlagAllowDomain = "--allow-domain"
	FlagAllowWrite  = "--allow-write"
	FlagDenyRead    = "--deny-read"
	FlagTemplate    = "--template"
	FlagAsk         = "--ask" // tty,socket,desktop
)

// CommandLine is the file name of rules that came as flags.
const CommandLine = "command line"

// FromFlags makes a file of flags. A rule's line is the flag's place among
// them, from 1. What is wrong with a value is New's error.
func FromFlags(flags Flags) *File {
	f := newFile(CommandLine)
	f.flags = true
	f.allowed, f.allowWrite, f.denyRead = &[]hostEntry{}, &[]pathEntry{}, &[]pathEntry{}
	for i, fl := range flags {
		f.data = fmt.Appendf(f.data, "%s=%s\n", fl.Name, fl.Value)
		f.addFlag(fl, Rule{File: CommandLine, Line: i + 1})
	}
	return f
}

func (f *File) addFlag(fl Flag, rule Rule) {
	fail := func(message, hint string) {
		f.errs = append(f.errs, &Error{File: CommandLine, Line: rule.Line, Message: message,
			Hint: hint, SourceLine: fl.Name + " " + fl.Value})
	}
	var paths *[]pathEntry
	switch fl.Name {
	case FlagAllowDomain:
		e, err := parseHostEntry(fl.Value, entryAllow)
		if err != nil {
			fail(err.Error(), hintOf(err))
			return
		}
		e.rule = rule
		*f.allowed = append(*f.allowed, e)
		return
	case FlagAsk:
		f.keys["ask"] = rule
		if err := f.flagAsk(fl.Value); err != nil {
			fail(err.Error(), hintOf(err))
		}
		return
	case FlagAllowWrite:
		paths = f.allowWrite
	case FlagDenyRead:
		paths = f.denyRead
	case FlagTemplate:
		t, err := Template(fl.Value)
		if err != nil {
			fail(err.Error(), hintOf(err))
			return
		}
		f.templates = append(f.templates, t)
		return
	default:
		fail("unknown policy flag "+clip(fl.Name), "")
		return
	}
	if err := checkPath(fl.Value); err != nil {
		fail(err.Error(), hintOf(err))
		return
	}
	*paths = append(*paths, pathEntry{path: fl.Value, rule: rule})
}

// hinted is an error with advice.
type hinted struct {
	message, hint string
}

func (e *hinted) Error() string { return e.message }

func hintOf(err error) string {
	if h, ok := err.(*hinted); ok {
		return h.hint
	}
	return ""
}
