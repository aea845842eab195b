package seatbelt

import (
	"crypto/rand"
	"encoding/hex"
	"io"
)

// Where macOS keeps the programs that are used; never found through PATH.
const (
	sandboxExec = "/usr/bin/sandbox-exec"
	logProgram  = "/usr/bin/log"
	catProgram  = "/bin/cat"
	trueProgram = "/usr/bin/true"
)

// Command is a program to start with no input and no environment but its own.
type Command struct {
	Path string
	Args []string // without the name
	Env  []string
}

// Exec starts programs. The real one is System, on macOS.
type Exec interface {
	Start(Command) (Process, error)
}

// Process is a program that runs.
type Process interface {
	PID() int
	// Output is its standard output. Read it to its end before Wait.
	Output() io.Reader
	// Errors gives the beginning of its standard error, whole after Wait.
	Errors() string
	Terminate() error // SIGTERM
	Kill() error      // SIGKILL
	// Wait gives the exit status; 128 and the signal's number if one ended it.
	// It may be called by several, and again.
	Wait() (int, error)
}

// plainEnv keeps the programs' words the same for every user.
var plainEnv = []string{"PATH=/usr/bin:/bin", "LANG=C"}

// Error is a boundary or a record that could not be had.
type Error struct {
	Err  error
	Hint string // what to do about it; may be empty
}

func (e *Error) Error() string { return e.Err.Error() }
func (e *Error) Unwrap() error { return e.Err }

const tagPrefix = "sallyport-"

// NewTag makes the word by which a run knows its own records: it cannot be
// guessed, and it does not say what is run.
func NewTag() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	return tagPrefix + hex.EncodeToString(b[:])
}

// validTag reports whether a tag can stand in a profile and in a predicate.
func validTag(tag string) bool {
	for _, c := range []byte(tag) {
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '_') {
			return false
		}
	}
	return len(tag) >= 16 && len(tag) <= 128
}
