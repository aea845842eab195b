package plan

import (
	"fmt"
	"strings"
)

// Errno is an error number of Linux; those used here are the same on every
// architecture that is supported.
type Errno uint16

const (
	EPERM  Errno = 1
	EACCES Errno = 13
	ENOSYS Errno = 38
)

var errnoNames = map[Errno]string{EPERM: "EPERM", EACCES: "EACCES", ENOSYS: "ENOSYS"}

func (e Errno) String() string {
	if n, ok := errnoNames[e]; ok {
		return n
	}
	return fmt.Sprintf("errno(%d)", uint16(e))
}

// Check looks at the low 32 bits of one argument: it holds if they, under
// Mask, are one of Values. Every argument judged here is an int of the kernel's,
// which ignores the upper half; a filter that compared it could be passed by
// setting a bit there (CVE-2019-10063).
type Check struct {
	Arg    int
	Mask   uint32
	Values []uint32
}

func (c Check) holds(args [6]uint64) bool {
	v := uint32(args[c.Arg]) & c.Mask
	for _, want := range c.Values {
		if v == want {
			return true
		}
	}
	return false
}

// SeccompRule refuses some system calls. Without conditions it refuses them
// always.
type SeccompRule struct {
	Name  string // the rule of its events is "builtin:seccomp-NAME"
	Errno Errno
	// Quiet marks an answer that is no denial: the call is said not to exist,
	// and its callers are expected to know another way.
	Quiet bool
	// Supervised marks calls that the supervisor looks at and, if it allows
	// them, performs for the caller. Errno answers where there is no supervisor.
	Supervised bool
	Calls      []string
	// Unless and Only hold alternatives, each a list of checks that must all
	// hold. One alternative of Unless lets the call pass; if Only is given, one
	// of its alternatives must hold for the call to be refused.
	Unless, Only [][]Check
}

// refuses reports whether r refuses one of its calls with these arguments.
func (r SeccompRule) refuses(args [6]uint64) bool {
	if r.Only != nil {
		return anyHolds(r.Only, args)
	}
	return !anyHolds(r.Unless, args)
}

func anyHolds(alternatives [][]Check, args [6]uint64) bool {
	for _, checks := range alternatives {
		all := true
		for _, c := range checks {
			all = all && c.holds(args)
		}
		if all {
			return true
		}
	}
	return false
}

// Seccomp is the system call filter of a sandbox. A payload may add filters of
// its own, which can only take away: the kernel heeds the strictest answer, an
// errno before a notification, and allows one listener (EBUSY for a second),
// so that nobody can answer "continue" in our place.
type Seccomp struct {
	Rules []SeccompRule
	// Newest is the last system call known here. Those above it do not exist,
	// as on an older kernel, which programs are used to: a call that this table
	// has never heard of may be a new door, as io_uring and open_tree_attr were.
	Newest uint32
}

// Names of the rules that are not about particular calls.
const (
	RuleForeignArch = "foreign-arch"
	RuleX32         = "x32"
	RuleNewer       = "newer"
)

// X32Bit marks the calls of amd64's x32 ABI, which are a second set of numbers
// for everything that the filter refuses.
const X32Bit = 0x40000000

// Refusal is the filter's answer to a call that does not pass.
type Refusal struct {
	Rule  string
	Call  string // empty where the number has no name here
	Errno Errno
	Quiet bool
	// Supervised: not a refusal yet, see SeccompRule.
	Supervised bool
}

// Decide is the filter as a function: what the kernel's struct seccomp_data
// says about a call, and the refusal, if it is one. native is the architecture
// of the machine, auditArch that of the call.
func (s Seccomp) Decide(native Arch, auditArch, nr uint32, args [6]uint64) (Refusal, bool) {
	switch {
	case native == ArchInvalid || auditArch != native.Audit():
		return Refusal{Rule: RuleForeignArch, Errno: ENOSYS}, true
	case native == ArchAMD64 && nr >= X32Bit:
		return Refusal{Rule: RuleX32, Errno: ENOSYS}, true
	case nr > s.Newest:
		return Refusal{Rule: RuleNewer, Errno: ENOSYS, Quiet: true}, true
	}
	for _, r := range s.Rules {
		for _, call := range r.Calls {
			if n, ok := native.Syscall(call); ok && n == nr && r.refuses(args) {
				return Refusal{r.Name, call, r.Errno, r.Quiet, r.Supervised}, true
			}
		}
	}
	return Refusal{}, false
}

// String lists the filter, one rule a line.
func (s Seccomp) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "refuse %s %s: calls of another architecture\n", RuleForeignArch, ENOSYS)
	fmt.Fprintf(&b, "refuse %s %s: calls from %#x on amd64\n", RuleX32, ENOSYS, X32Bit)
	fmt.Fprintf(&b, "absent %s %s: calls above %d\n", RuleNewer, ENOSYS, s.Newest)
	for _, r := range s.Rules {
		verb := "refuse"
		switch {
		case r.Quiet:
			verb = "absent"
		case r.Supervised:
			verb = "supervise"
		}
		fmt.Fprintf(&b, "%s %s %s: %s", verb, r.Name, r.Errno, strings.Join(r.Calls, " "))
		writeConditions(&b, " unless ", r.Unless)
		writeConditions(&b, " only if ", r.Only)
		b.WriteByte('\n')
	}
	return b.String()
}

func writeConditions(b *strings.Builder, word string, alternatives [][]Check) {
	for i, checks := range alternatives {
		if i > 0 {
			word = " or "
		}
		b.WriteString(word)
		for j, c := range checks {
			if j > 0 {
				b.WriteString(", ")
			}
			fmt.Fprintf(b, "arg%d", c.Arg)
			if c.Mask != ^uint32(0) {
				fmt.Fprintf(b, "&%#x", c.Mask)
			}
			for k, v := range c.Values {
				b.WriteString([]string{"=", "|"}[min(k, 1)])
				fmt.Fprintf(b, "%#x", v)
			}
		}
	}
}
