// Package sandbox puts up the boundary of one run on Linux and takes it down
// again: user and network namespaces, nftables, bubblewrap, Landlock, seccomp.
// It performs a plan and decides nothing.
//
// A run is a chain of processes, each the same binary: the supervisor (the
// caller of Start), stage 1 (a user and a network namespace; it becomes
// bubblewrap) and stage 2 (process 1 of the sandbox; it starts the payload and
// reaps). Each dies when the one before it does.
//
// Lifetime hazards: a Sandbox owns an OS thread, because the kernel ties the
// death signal of a child to the thread that made it (PR_SET_PDEATHSIG,
// prctl(2)); Close must be called. Init must be the first thing main does.
package sandbox

import (
	"errors"
	"fmt"
	"os"

	"github.com/sallyport/sallyport/internal/event"
	"github.com/sallyport/sallyport/internal/plan"
)

// Config is what a sandbox needs before there is a plan.
type Config struct {
	Network plan.Network
	// Stdin, Stdout and Stderr become the payload's. They must be set.
	Stdin, Stdout, Stderr *os.File
	// Emit takes an event for every system call that is refused, before it is.
	// It must not block for long.
	Emit func(event.Event)
}

// Canary is what stage 2 proves the boundary by, before the payload exists: a
// connection from inside arrives at the proxy.
type Canary struct {
	Addr  string // host:port, of a range that is never routed (RFC 5737)
	Token [32]byte
	// Refused is for sandboxes of the kernel's programs: how the path of a folder
	// begins that cannot be made, which whoever reads their record waits for; a datagram to
	// Addr must be refused, too. Empty: there are none.
	Refused string `json:",omitempty"`
}

// ExitStatus is how the payload ended.
type ExitStatus struct {
	Code   int // exit status; 128+Signal if it was killed
	Signal int // 0: it exited by itself
}

// Error is a failure to put up the boundary, with what to do about it.
type Error struct {
	Err  error
	Hint string
	// Status is 126 or 127 where the payload itself could not be executed, as
	// shells use them; else 0.
	Status int
}

func (e *Error) Error() string { return e.Err.Error() }
func (e *Error) Unwrap() error { return e.Err }

// ErrUnsupported is returned on systems other than Linux.
var ErrUnsupported = errors.New("sandbox: this system has no user and network namespaces")

func fail(hint, format string, args ...any) error {
	return &Error{Err: fmt.Errorf(format, args...), Hint: hint}
}
