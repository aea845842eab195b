// Package stage2 is process 1 of a sandbox: what it is told and says, and the
// process itself. It trusts nothing inside and is trusted by nothing outside: it
// proves that the boundary holds, confines a thread, starts the payload from it,
// passes signals on, reaps, and says how the payload ended.
//
// Every program that can make sandboxes is one, too, when it is executed as
// process 1 by its name there. The package depends on little, so that it is
// initialised before most of the program (a package is as soon as those that it
// imports are, the Go specification's "Package initialization"), and what is not
// initialised by then never is: that is half of the start of a process.
package stage2

import "fmt"

// Canary is what stage 2 proves the boundary by, before the payload exists: a
// connection from inside arrives at the proxy.
type Canary struct {
	Addr  [4]byte // of a range that is never routed (RFC 5737)
	Port  int
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

// StreamNames are for what is said of the payload's.
var StreamNames = [3]string{"standard input", "standard output", "standard error"}

func fail(hint, format string, args ...any) error {
	return &Error{Err: fmt.Errorf(format, args...), Hint: hint}
}
