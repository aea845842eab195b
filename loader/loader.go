// Package loader owns the kernel programs of package bpf: it finds out which
// the kernel takes, loads, attaches and pins them, tells them about sandboxes,
// and turns what they record into events. It is the only package that knows
// how the programs and their maps look.
//
// It decides nothing about policies, makes no cgroups (internal/cgroup does) and
// reads nothing of /proc to complete an event.
//
// Lifetimes: without Options.Pin, closing the Loader takes the programs away and
// with them what they enforce. With it they stay, and keep counting, until
// Detach; a later Load with the same Pin takes them over. One process at a time
// may have a Pin open.
package loader

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/sallyport/sallyport/internal/event"
	"github.com/sallyport/sallyport/internal/plan"
)

// Options say where to attach and what to keep.
type Options struct {
	// Cgroup is the folder of the parent of all sandboxes. A sandbox is a cgroup
	// directly below.
	Cgroup string
	// Pin is a folder on a bpffs, made if missing; empty: pin nothing.
	Pin string
	// RingBytes is the size of the ring buffer, a power of two; 0: 4 MiB.
	RingBytes uint32
	// One: there will be one sandbox, and smaller tables do.
	One bool
	// NoLSM leaves LSM programs out where there could be some.
	NoLSM bool
	// Fexit has refused calls recorded where they are refused, if programs for that
	// prove to do it, and io_uring's attempts upon names with them; else every call
	// of the machine is looked at where it returns. Attaching them takes a while. While
	// there are sandboxes, what is pinned goes on as it is. See Recorder.
	Fexit Fexit
	// Supervised: all sandboxes will have Rules.NoRefused. There are no fexit
	// programs for calls that seccomp refuses then.
	Supervised bool
}

// Fexit says on which kernels fexit programs may record.
type Fexit uint8

// The zero value is none.
const (
	FexitNever  Fexit = iota
	FexitSafe         // those that never leave a program out
	FexitAlways       // those, too, that leave some out, and count how many: see Counters
)

// FileTable are rules about names of files, for Rules.Files.
type FileTable = plan.FileTable

// Rules are what the kernel itself decides about one sandbox. The zero value
// allows no socket.
type Rules struct {
	TCP, UDP, Ping, MPTCP bool // may be created; TCP leads to the proxy, UDP to resolvers
	// UnixDirs are folders of the sandbox's own, in which it may connect to every
	// socket; UnixSockets are sockets by their whole path. Paths as inside. They
	// work where the kernel has connect_unix; see Has. LSM programs let through
	// what the sandbox made itself, and UnixSockets by their path outside, which
	// must be the same.
	UnixDirs, UnixSockets []string
	AnyUnix               bool // every unix socket
	// Files are rules about names, for LSM programs: without these they are refused.
	Files  *FileTable
	Nested bool // user namespaces may be made, where LSM programs refuse them
	// NoRefused leaves out system calls that the seccomp filter refuses: they
	// have a record already.
	NoRefused bool
	// Canary, if set, is how a path inside begins upon which the sandbox's own
	// start-up provokes a refusal. Whatever is refused until Start is nobody's attempt: it
	// is neither handed on nor counted, and Start fails unless this one was seen.
	Canary string
}

// Record is a denial with more than an event says of it.
type Record struct {
	Cgroup uint64 // of the sandbox
	// Event has everything except Sandbox, Rule and what the policy would say:
	// Reason is the layer's own guess.
	Event event.Event
	// Call is the system call, or the program that refused.
	Call   string
	Args   [6]uint64
	TID    int // the thread, as the host numbers it; 0: not known
	canary bool
	seen   string // the kind of program that recorded it
}

// Connection is one whose process is asked for, as seen from inside the sandbox.
type Connection struct {
	UDP      bool // a datagram to a resolver: To does not matter
	From, To netip.AddrPort
}

// ErrMissing marks what the kernel has not got, as opposed to what could not be
// found out.
var ErrMissing = errors.New("not in this kernel")

// ErrInUse: the folder of pins belongs to a process that runs.
var ErrInUse = errors.New("in use by another process")

// ErrFull: a map has no room for another entry. Nothing was changed.
var ErrFull = errors.New("no room left in the kernel's table")

// ErrNoCanary: what was provoked to be recorded was not.
var ErrNoCanary = errors.New("a refusal that the sandbox provoked did not arrive: what it is refused would not be recorded")

// CanaryPath is a path for Rules.Canary: devpts(5) has no folders, whoever tries
// to make one.
func CanaryPath(id string) string { return "/dev/pts/sallyport-canary-" + id }

// canaryCall makes a folder of that name.
const canaryCall = "mkdirat"

// PinError says that what is pinned is of no use to this build.
type PinError struct {
	Dir    string
	Reason string
}

func (e *PinError) Error() string {
	return fmt.Sprintf("adopt programs pinned at %s: %s", e.Dir, e.Reason)
}

// ProgramError says which program could not be used.
type ProgramError struct {
	Program string
	Purpose string
	Op      string // "load", "attach", "pin"
	Err     error
}

func (e *ProgramError) Error() string {
	return fmt.Sprintf("%s program %s, which %s: %v", e.Op, e.Program, e.Purpose, e.Err)
}

func (e *ProgramError) Unwrap() error { return e.Err }
