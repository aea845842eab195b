package sallyport

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/sallyport/sallyport/internal/desktop"
	"github.com/sallyport/sallyport/internal/event"
	"github.com/sallyport/sallyport/internal/policy"
	"github.com/sallyport/sallyport/proxy/ask"
)

// asking is what a run has of those who decide what its policy leaves open. Its
// methods do nothing on nil: nobody is asked, and nobody told.
type asking struct {
	broker *ask.Broker
	rules  policy.AskRules

	mu      sync.Mutex
	closers []func()
	closed  bool
}

// startAsking makes the part of a run that asks, nil where its policy and
// options want none.
func startAsking(o *Options, p *policy.Policy, env policy.Env, id string) (*asking, error) {
	rules := p.Ask()
	authorizer := ask.NewAuthorizer(p.Authorizer())
	if !rules.On && authorizer == nil && !o.Notify && o.AskSocket == "" {
		return nil, nil
	}
	if !rules.On && o.AskSocket != "" && !o.Notify {
		return nil, &Error{Err: fmt.Errorf("--ask-socket %s: asking is off", o.AskSocket), Status: statusFailed,
			Hint: "turn it on with --ask, or with ask: {} in the policy"}
	}
	a := &asking{rules: rules}
	a.broker = ask.New(ask.Config{
		Session: id, Name: o.Name, Asking: rules.On, Timeout: rules.Timeout, Authorizer: authorizer,
		Remember: remembers(o, env),
	})
	if o.AskSocket == "" {
		return a, nil
	}
	if err := a.listen(o.AskSocket, rules.On && slices.Contains(rules.Via, policy.AskSocket)); err != nil {
		a.close()
		return nil, &Error{Err: err, Status: statusFailed, Hint: "name a path at which there is nothing yet, in a directory that you can write"}
	}
	return a, nil
}

// ask is the proxy's, nil where nothing is ever asked.
func (a *asking) ask() func(context.Context, ask.Question) policy.Decision {
	if a == nil {
		return nil
	}
	return a.broker.Ask
}

// event tells who wants to know at once.
func (a *asking) event(e event.Event) {
	if a != nil {
		a.broker.Event(e)
	}
}

// via says whether the user is asked in a way.
func (a *asking) via(way string) bool {
	return a != nil && a.rules.On && slices.Contains(a.rules.Via, way)
}

// listen serves programs of the user's at a path.
func (a *asking) listen(path string, expected bool) error {
	s, err := ask.Listen(a.broker, path, expected)
	if err != nil {
		return err
	}
	a.atEnd(s.Close)
	return nil
}

// atEnd has f called by close, or at once if that has been.
func (a *asking) atEnd(f func()) {
	a.mu.Lock()
	closed := a.closed
	if !closed {
		a.closers = append(a.closers, f)
	}
	a.mu.Unlock()
	if closed {
		f()
	}
}

// startTerminal asks on the user's terminal, where there is one.
func (a *asking) startTerminal(s ask.Screen) {
	if s == nil || !a.via(policy.AskTTY) {
		return
	}
	a.atEnd(ask.StartTerminal(a.broker, s))
}

// startDesktop asks, and with --notify tells, on the desktop.
func (a *asking) startDesktop(o *Options) {
	if a == nil || !o.Notify && !a.via(policy.AskDesktop) {
		return
	}
	bus, err := desktop.Connect()
	if err == nil {
		a.atEnd(bus.Close)
		if o.Notify {
			a.atEnd(desktop.Tell(a.broker, bus))
		}
		var stop func()
		if a.via(policy.AskDesktop) {
			if stop, err = desktop.Ask(a.broker, bus); err == nil {
				a.atEnd(stop)
			}
		}
	}
	// One way of several may be missing: most runs have no desktop.
	if err != nil && o.Warn != nil && (o.Notify || len(a.rules.Via) == 1) {
		o.Warn(err.Error(), "")
	}
}

// end refuses what is open. What happens then is still told.
func (a *asking) end() {
	if a != nil {
		a.broker.Close()
	}
}

// close ends everything.
func (a *asking) close() {
	if a == nil {
		return
	}
	a.end()
	a.mu.Lock()
	closers := a.closers
	a.closers, a.closed = nil, true
	a.mu.Unlock()
	for _, f := range slices.Backward(closers) {
		f()
	}
}

// remembers gives what makes an answer a rule of the user's own policy, nil
// where the run's policy is another.
func remembers(o *Options, env policy.Env) func(allow bool, entry string) error {
	if len(o.Policy.Files) > 0 {
		return nil
	}
	return func(allow bool, entry string) error { return remember(env, allow, entry) }
}
