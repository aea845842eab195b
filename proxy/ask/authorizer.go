package ask

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/sallyport/sallyport/internal/event"
	"github.com/sallyport/sallyport/internal/policy"
)

// Authorizer asks somebody outside. It fails closed: an error, silence and what
// is no answer refuse.
type Authorizer struct {
	// Call puts one request and gives the answer's bytes; it must end with ctx.
	Call func(ctx context.Context, r Request) ([]byte, error)
	// Timeout bounds one decision; TTL and NegativeTTL are how long an allowance
	// and a refusal are good for.
	Timeout, TTL, NegativeTTL time.Duration
	// AtOnce bounds the calls that run beside one another; 16.
	AtOnce int

	once  sync.Once
	slots chan struct{}

	mu    sync.Mutex
	known map[policy.NetRequest]*ruling
}

// ruling is one decision, made or in the making.
type ruling struct {
	done    chan struct{}
	until   time.Time // zero: in the making
	outcome Outcome
	passed  bool          // the authorizer leaves it to the user
	ttl     time.Duration // zero: it says nothing of it
}

const (
	byAuthorizer  = "authorizer"
	maxRulings    = 4096
	failureTTL    = time.Second // a broken authorizer is not called for every connection
	defaultAtOnce = 16
)

// decide gives the authorizer's decision, one that is known or a new one.
func (a *Authorizer) decide(ctx context.Context, r Request, req policy.NetRequest) (o Outcome, passed bool) {
	a.once.Do(func() {
		if a.AtOnce <= 0 {
			a.AtOnce = defaultAtOnce
		}
		a.slots, a.known = make(chan struct{}, a.AtOnce), map[policy.NetRequest]*ruling{}
	})
	x, mine := a.look(req, time.Now())
	if mine {
		a.call(r, x)
		a.keep(req, x)
		close(x.done)
	}
	select {
	case <-x.done:
		return x.outcome, x.passed
	case <-ctx.Done():
		return Outcome{By: byAuthorizer, Reason: event.Unanswered, Text: "it went away before there was an answer"}, false
	}
}

// look finds a ruling, or begins one.
func (a *Authorizer) look(req policy.NetRequest, now time.Time) (x *ruling, mine bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if x = a.known[req]; x != nil && (x.until.IsZero() || now.Before(x.until)) {
		return x, false
	}
	if len(a.known) >= maxRulings {
		for k, old := range a.known { // the map's order is as good as any
			if !old.until.IsZero() && len(a.known) >= maxRulings/2 {
				delete(a.known, k)
			}
		}
	}
	x = &ruling{done: make(chan struct{})}
	a.known[req] = x
	return x, true
}

// keep lets a ruling serve for its time.
func (a *Authorizer) keep(req policy.NetRequest, x *ruling) {
	ttl := a.NegativeTTL
	switch {
	case x.outcome.Reason != event.AuthorizerAnswer:
		ttl = failureTTL
	case x.outcome.Allowed:
		ttl = a.TTL
	}
	if x.ttl > 0 {
		ttl = min(ttl, x.ttl)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if x.until = time.Now().Add(ttl); x.passed {
		delete(a.known, req)
	}
}

// call asks. It is bounded as a whole: waiting for its turn is part of it.
func (a *Authorizer) call(r Request, x *ruling) {
	ctx, cancel := context.WithTimeout(context.Background(), a.Timeout)
	defer cancel()
	reply, err := a.exchange(ctx, r)
	if err != nil {
		if ctx.Err() != nil {
			err = fmt.Errorf("no answer within %s", a.Timeout)
		}
		x.outcome = Outcome{By: byAuthorizer, Reason: event.Unanswered,
			Text: "the authorizer failed: " + string(clip(event.Text(err.Error()), maxReason))}
		return
	}
	x.outcome = Outcome{Allowed: reply.Verdict == Allow, By: byAuthorizer, Reason: event.AuthorizerAnswer,
		Text: string(reply.Reason), ID: string(reply.DecisionID)}
	x.passed, x.ttl = reply.Verdict == Pass, time.Duration(reply.TTL)*time.Second
}

func (a *Authorizer) exchange(ctx context.Context, r Request) (Reply, error) {
	select {
	case a.slots <- struct{}{}:
		defer func() { <-a.slots }()
	case <-ctx.Done():
		return Reply{}, ctx.Err()
	}
	data, err := a.Call(ctx, r)
	if err != nil {
		return Reply{}, err
	}
	if ctx.Err() != nil {
		return Reply{}, ctx.Err() // it came too late
	}
	reply, err := parseRuling(data)
	if err == nil && reply.ID != "" && reply.ID != r.ID {
		err = fmt.Errorf("an answer to another request, %q", clip(event.Text(reply.ID), 64))
	}
	return reply, err
}
