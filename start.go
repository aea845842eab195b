package sallyport

import (
	"context"
	"os"
)

// Sandbox is a command that runs inside its boundary.
type Sandbox struct {
	updates *updates
	send    func(os.Signal) error
	begun   chan struct{} // closed when the fields above are set
	done    chan struct{} // closed when those below are
	result  *Result
	err     error
}

// Start puts up the boundary and starts the command. An *Error says that it was
// not started. Unlike Run it leaves this process's signals alone: cancelling ctx
// ends the command, Signal sends it one. Wait must be called.
func Start(ctx context.Context, o Options) (*Sandbox, error) {
	s := &Sandbox{begun: make(chan struct{}), done: make(chan struct{})}
	o.begun = func(u *updates, send func(os.Signal) error) {
		s.updates, s.send = u, send
		close(s.begun)
	}
	go func() {
		defer close(s.done)
		s.result, s.err = Run(ctx, o)
	}()
	select {
	case <-s.begun:
		return s, nil
	case <-s.done:
	}
	select {
	case <-s.begun: // and ended
		return s, nil
	default:
		return nil, s.err
	}
}

// Wait returns when the command has ended and its record is complete.
func (s *Sandbox) Wait() (*Result, error) {
	<-s.done
	return s.result, s.err
}

// Update replaces the policy by the one that p says, for the connections and
// requests that come; those that are open stay. What may change is what decides
// about hosts; Change says what did not. With an error nothing has changed.
func (s *Sandbox) Update(p LoadOptions) (*Change, error) { return s.updates.apply(p, "Update") }

// Signal sends a signal to the command's process group.
func (s *Sandbox) Signal(sig os.Signal) error { return s.send(sig) }
