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
	"github.com/sallyport/sallyport/sandbox/stage2"
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

// What stage 2 proves the boundary by, how it says that the payload ended, and
// failures to put the boundary up.
type (
	Canary     = stage2.Canary
	ExitStatus = stage2.ExitStatus
	Error      = stage2.Error
)

// ErrUnsupported is returned on systems other than Linux.
var ErrUnsupported = errors.New("sandbox: this system has no user and network namespaces")

func fail(hint, format string, args ...any) error {
	return &Error{Err: fmt.Errorf(format, args...), Hint: hint}
}
