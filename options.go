package sallyport

import (
	"errors"
	"os"
	"time"

	"github.com/sallyport/sallyport/internal/audit"
	"github.com/sallyport/sallyport/internal/event"
	"github.com/sallyport/sallyport/internal/plan"
)

// Event is one attempt to cross the boundary; see the schema in docs/audit.md.
type Event = event.Event

// Options say what to run and under which policy. Command is needed; the zero
// value of everything else is a working default.
type Options struct {
	Command []string
	Dir     string // working directory; default: the caller's
	Name    string // shown in events
	Policy  LoadOptions
	// Env adds to what the policy passes: "NAME=VALUE", or "NAME" to pass the
	// caller's value.
	Env []string
	// Stdin, Stdout and Stderr become the command's; default: the caller's. In
	// the place of a terminal it gets one of its own, and Run makes the caller's
	// raw while the command has it.
	Stdin, Stdout, Stderr *os.File
	// Timeout ends the command after this time: with SIGTERM, and 5 seconds
	// later with SIGKILL. 0: it may run for ever.
	Timeout time.Duration
	// AskSocket is where to make one more socket for who answers the run's
	// questions, as docs/ask.md has it: for a program that starts the run.
	AskSocket string
	// Notify shows denials on the desktop as they happen.
	Notify bool
	// OnEvent is called for every event as it is recorded. It must not block.
	OnEvent func(Event)
	// Warn is called with what the user should know before the command starts.
	Warn func(message, hint string)

	// Version of the program, for its metrics.
	Version string

	// Control, if set, is read for policies that take the place of Policy's files
	// while the command runs: JSON, one a line, each whole.
	Control *os.File

	begun  func(*updates, func(os.Signal) error) // told when the command runs; set by Start
	kernel *kernelSide                           // where another than Run has found it
	tier   event.Tier                            // set when it is known
	agent  bool                                  // it is the machine's agent's
	whyNot string                                // a higher one
	// learnTier sets both, if it is not nil, and takes its time.
	learnTier func()
}

// Result is how a run ended.
type Result struct {
	// Status is the command's exit status; 128 and the signal's number if one
	// killed it; 124 if it ran out of time.
	Status   int
	TimedOut bool
	// Timeout is the time that it had, by Options or by the policy; 0: for ever.
	Timeout time.Duration
	Summary audit.Summary
}

// Error is a failure to start or to hold the boundary. The command did not run,
// or was ended.
type Error struct {
	Err  error
	Hint string // what to do about it; may be empty
	// Status is what run exits with: 125, or 126 and 127 if the command could
	// not be executed.
	Status int
}

func (e *Error) Error() string { return e.Err.Error() }
func (e *Error) Unwrap() error { return e.Err }

// statusTimeout is the exit status of a command that ran out of time, as
// timeout(1) has it.
const statusTimeout = 124

// timeoutGrace is how long a command that ran out of time has to end itself.
const timeoutGrace = 5 * time.Second

// statusFailed is the exit status of a run that failed by itself.
const statusFailed = 125

// asError gives every failure of a run its status and hint.
func asError(err error) error {
	if err == nil {
		return nil
	}
	var e *Error
	if errors.As(err, &e) {
		return err
	}
	out := &Error{Err: err, Status: statusFailed}
	out.Hint, out.Status = sandboxAdvice(err, out.Status)
	if hint := hintIn(err); hint != "" {
		out.Hint = hint
	}
	return out
}

// Plan computes what Run would put up, without putting it up.
func Plan(o Options) (*plan.Plan, error) {
	if err := o.findTier(); err != nil {
		return nil, asError(err)
	}
	p, err := prepare(&o)
	if err != nil {
		return nil, asError(err)
	}
	return p.plan, nil
}
