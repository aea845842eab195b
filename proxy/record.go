package proxy

import (
	"time"

	"github.com/sallyport/sallyport/internal/event"
	"github.com/sallyport/sallyport/internal/policy"
)

// emit completes an event and hands it over.
func (p *Proxy) emit(e event.Event) {
	if e.Count == 0 {
		e.Count = 1
	}
	if e.First.IsZero() {
		e.First = time.Now()
		e.Last = e.First
	}
	if e.Time.IsZero() {
		e.Time = e.Last
	}
	e.Schema = event.SchemaVersion
	if e.Verdict.Denied() {
		p.count.denied[e.Reason].Add(e.Count)
	}
	p.cfg.Emit(e)
}

// builtin is a denial that comes from the proxy itself and not from the policy.
func builtin(name string, r event.Reason) policy.Decision {
	return policy.Decision{Verdict: event.Deny, Reason: r, Rule: policy.Rule{Name: name}}
}

// denial begins the event of a refused attempt.
func denial(l event.Layer, op event.Operation, d policy.Decision) event.Event {
	v := d.Verdict
	if !v.Denied() {
		v = event.Deny
	}
	return event.Event{Verdict: v, Layer: l, Operation: op, Reason: d.Reason, Rule: d.Rule.String()}
}

// deny records that the session's attempt to reach t was refused.
func (s *session) deny(t target, d policy.Decision, detail string) {
	e := denial(event.LayerProxy, event.NetConnect, d)
	e.Object = t.object()
	if e.Object.Host == "" && e.Object.Addr == "" && s.ends.Origin.IsValid() {
		e.Object.Addr, e.Object.Port = s.ends.Origin.Addr().String(), s.ends.Origin.Port()
	}
	if detail == "" {
		detail = d.Text
	}
	e.Detail, e.Decision = event.Text(clip(detail)), event.Text(d.ID)
	e.Process, e.Ancestors = s.who()
	s.p.emit(e)
}

// unreachable records an attempt that was allowed and came to nothing.
func (s *session) unreachable(t target, d policy.Decision, err error) {
	s.p.count.upstreamError(err)
	e := s.allowance(t, d)
	e.Reason = event.Unreachable
	e.Detail = event.Text(clip(err.Error()))
	s.p.allows.begin(e).end()
}

// allow records that the session's connection to t was let through; end the
// result with the connection.
func (s *session) allow(t target, d policy.Decision) *allowed {
	return s.p.allows.begin(s.allowance(t, d))
}

// allowance begins the event of an allowed attempt. It counts here: the event
// comes later, with others.
func (s *session) allowance(t target, d policy.Decision) event.Event {
	s.p.count.allowed.Add(1)
	e := event.Event{
		Verdict: d.Verdict, Layer: event.LayerProxy, Operation: event.NetConnect,
		Object: t.object(), Reason: d.Reason, Rule: d.Rule.String(), Count: 1, First: time.Now(),
		Decision: event.Text(d.ID), Detail: event.Text(clip(d.Text)),
	}
	e.Last = e.First
	e.Process, e.Ancestors = s.who()
	return e
}
