package policy

import (
	"strings"

	"github.com/sallyport/sallyport/internal/event"
)

// FileRules is what a plan needs to know of files. Where the lists disagree:
// reading, the rule that starts furthest down a path decides, and AllowRead
// wins a tie; writing, any denial wins.
type FileRules struct {
	// Disabled drops everything but ProtectedPaths and the Final read denials.
	Disabled                                   bool
	DenyRead, AllowRead, AllowWrite, DenyWrite []PathRule
	// Protected must not be written under any write root, nor under $HOME.
	Protected []ProtectedName
	// ProtectedPaths must not be written at all.
	ProtectedPaths []PathRule
	// ScanDepth is how deep a tier that cannot watch every path looks.
	ScanDepth int
	// Points are paths of which the lists say nothing, and DecideFile may say
	// another thing than of what is above them.
	Points []PathRule
}

const (
	ruleReadDefault = "read-default"
	ruleReadOnly    = "read-only"
	rulePrivate     = "private-directory"
	ruleNoFiles     = "filesystem-disabled"
)

// Private reports whether a write is allowed only because the sandbox has the
// directory for itself: what is the host's there, shown by name, is not written.
func (d Decision) Private() bool { return d.Allowed() && d.Rule == builtin(rulePrivate) }

type access uint8

const (
	accessNone access = iota
	accessRead
	accessWrite
	accessMove // a write to what is below it, too
)

var fileAccess = map[event.Operation]access{
	event.FileRead:   accessRead,
	event.FileExec:   accessRead,
	event.FileWrite:  accessWrite,
	event.FileCreate: accessWrite,
	event.FileLink:   accessWrite,
	event.FileMeta:   accessWrite,
	event.FileDelete: accessMove,
	event.FileRename: accessMove,
}

// DecideFile decides an operation on an absolute, clean path as the sandbox
// sees it. Links are the caller's: a write is decided where it lands, a read
// by every name on its way.
func (p *Policy) DecideFile(op event.Operation, path string) Decision {
	return p.all(p.within, func(v *Policy) Decision { return v.decideFile(op, path, true) })
}

// FileRule is DecideFile without a Fix, which takes longer than the rest: for who
// asks of thousands of paths.
func (p *Policy) FileRule(op event.Operation, path string) Decision {
	return p.all(p.within, func(v *Policy) Decision { return v.decideFile(op, path, false) })
}

func (p *Policy) decideFile(op event.Operation, path string, fix bool) Decision {
	kind := fileAccess[op]
	if kind == accessNone || !cleanAbs(path) {
		return denied(event.RequestInvalid, builtin(ruleInvalid))
	}
	read := p.decideRead(path)
	if fix && !read.Allowed() && read.Rule.File != "" && !p.secret(path) {
		read.Fix = fixPath("filesystem.allowRead", "", path)
	}
	if kind == accessRead {
		return read
	}
	root, depth := p.allowWrite.deepest(path)
	write, refused := p.refuseWrite(op, kind, path, depth >= 0, fix)
	if !refused {
		write = p.decideWrite(path, root, depth, fix)
	}
	if read.Allowed() {
		return write
	}
	// What is hidden is not written either. To open it may take both lists.
	if !write.Allowed() && read.Fix != "" {
		if write.Fix == "" {
			read.Fix = ""
		} else {
			read.Fix += "; " + write.Fix
		}
	}
	return read
}

// decideRead leaves the Fix to the caller.
func (p *Policy) decideRead(path string) Decision {
	if r, depth := p.hidden.deepest(path); depth >= 0 {
		return denied(event.PathHidden, r.Rule)
	}
	if p.files.Disabled {
		return Decision{Verdict: event.Allow, Reason: event.DefaultAllowed, Rule: builtin(ruleNoFiles)}
	}
	no, noDepth := p.denyRead.deepest(path)
	if noDepth < 0 {
		return Decision{Verdict: event.Allow, Reason: event.DefaultAllowed, Rule: builtin(ruleReadDefault)}
	}
	if yes, depth := p.allowRead.deepest(path); depth >= noDepth {
		return allowed(yes.Rule)
	}
	return denied(event.PathHidden, no.Rule)
}

// secret reports whether a path is on the built-in list, whatever the policy
// makes of it: no change to open it is ever proposed.
func (p *Policy) secret(path string) bool {
	_, depth := p.secrets.deepest(path)
	return depth >= 0
}

// refuseWrite gives the denial that no allowWrite overrides. inRoot: one covers
// the path.
func (p *Policy) refuseWrite(op event.Operation, kind access, path string, inRoot, fix bool) (Decision, bool) {
	if r, depth := p.protectedPaths.deepest(path); depth >= 0 {
		return denied(event.PathProtected, r.Rule), true
	}
	if kind == accessMove {
		if r, ok := p.protectedPaths.below(path); ok {
			return denied(event.PathProtected, r.Rule), true
		}
	}
	if p.files.Disabled {
		return Decision{}, false
	}
	if r, ok := p.protectedName(op, kind, path, inRoot); ok {
		return denied(event.PathProtected, r), true
	}
	r, depth := p.denyWrite.deepest(path)
	if depth < 0 && kind == accessMove {
		// What holds a denied path cannot be moved away from around it.
		var below bool
		if r, below = p.denyWrite.below(path); !below {
			r, below = p.denyRead.below(path)
		}
		if below {
			depth = len(path)
		}
	}
	if depth < 0 {
		return Decision{}, false
	}
	d := denied(event.RuleDenied, r.Rule)
	if fix && r.Rule.File != "" {
		d.Fix = "narrow or take out " + quote(r.Path) + ", " + r.Rule.String()
	}
	return d, true
}

// decideWrite takes what allowWrite says of the path.
func (p *Policy) decideWrite(path string, root PathRule, depth int, fix bool) Decision {
	if p.files.Disabled {
		return Decision{Verdict: event.Allow, Reason: event.DefaultAllowed, Rule: builtin(ruleNoFiles)}
	}
	if depth >= 0 {
		d := allowed(root.Rule)
		if root.Rule.File == "" {
			d.Reason = event.DefaultAllowed
		}
		return d
	}
	if p.private(path) {
		return Decision{Verdict: event.Allow, Reason: event.DefaultAllowed, Rule: builtin(rulePrivate)}
	}
	d := denied(event.PathReadOnly, p.fallback("filesystem.allowWrite", ruleReadOnly))
	if fix && path != "/" {
		d.Fix = fixPath("filesystem.allowWrite", FlagAllowWrite, path)
	}
	return d
}

// private reports whether a path is in a directory that every sandbox has for
// itself, so that writing there reaches nothing outside.
func (p *Policy) private(path string) bool {
	for _, dir := range p.privateDirs {
		if within(path, dir) {
			return true
		}
	}
	return false
}

// protectedName gives the rule of the mandatory denial that covers a path
// under a write root or the home directory.
func (p *Policy) protectedName(op event.Operation, kind access, path string, inRoot bool) (Rule, bool) {
	if !inRoot && !within(path, p.env.Home) {
		return Rule{}, false
	}
	folded := strings.ToLower(path) // .GIT is .git where case does not count
	rule, found := Rule{}, false
	p.names.each(folded, func(m nameMatcher, rest string) bool {
		madeDir := m.Path == ".git" && op == event.FileCreate // git init
		if m.covers(rest) && !madeDir || kind == accessMove && m.holds(rest) {
			rule, found = m.Rule, true
		}
		return !found
	})
	return rule, found
}
