package proxy

import (
	"context"
	"net"
	"time"

	"github.com/sallyport/sallyport/internal/event"
	"github.com/sallyport/sallyport/internal/policy"
)

// Forward is one port that is open across the boundary: whoever connects to its
// listeners reaches what Dial does, and nothing else. No byte of it is looked
// at.
type Forward struct {
	Listeners []net.Listener
	Dial      func(ctx context.Context, from net.Conn) (net.Conn, error)
	// Operation, Object and Rule are those of the events.
	Operation event.Operation
	Object    event.Object
	Rule      policy.Rule
	// Inside says that the clients are the sandbox's.
	Inside bool
}

// Forward serves a port until Close, which closes its listeners.
func (p *Proxy) Forward(f Forward) {
	for _, l := range f.Listeners {
		p.goTracked(l, func() { p.acceptLoop(l, func(c net.Conn) { p.serveForward(c, f) }) })
	}
}

func (p *Proxy) serveForward(c net.Conn, f Forward) {
	if !p.admit(c) {
		return
	}
	defer p.count.openConns.Add(-1)
	client, ok := c.(stream)
	if !ok {
		p.panicked("accepted what cannot be half-closed")
		return
	}
	s := &session{p: p, conn: client, ends: Endpoints{Proto: "tcp"}}
	defer s.limitTotal()()
	if from, ok := c.RemoteAddr().(*net.TCPAddr); ok {
		s.ends.Client = unmapPort(from.AddrPort())
	}
	if to, ok := c.LocalAddr().(*net.TCPAddr); ok {
		s.ends.Origin = unmapPort(to.AddrPort())
	}
	e := p.crossing(s, f)
	up, err := p.dialForward(c, f)
	if err != nil {
		p.count.dialErrors.Add(1)
		e.Reason, e.Detail = event.Unreachable, event.Text(clip(err.Error()))
		p.allows.begin(e).end()
		reset(c)
		return
	}
	if !p.track(up) {
		return
	}
	defer p.closeUp(up)
	defer p.allows.begin(e).end()
	_ = (&relay{p: p, client: client, upstream: up}).run() // told by neither side
}

func (p *Proxy) dialForward(c net.Conn, f Forward) (stream, error) {
	ctx, cancel := context.WithTimeout(p.ctx, p.cfg.Limits.DialTimeout)
	defer cancel()
	up, err := f.Dial(ctx, c)
	if err != nil {
		return nil, err
	}
	s, ok := up.(stream)
	if !ok {
		up.Close()
		return nil, net.ErrClosed
	}
	return s, nil
}

// crossing begins the event of one connection.
func (p *Proxy) crossing(s *session, f Forward) event.Event {
	p.count.allowed.Add(1)
	e := event.Event{
		Verdict: event.Allow, Layer: event.LayerProxy, Operation: f.Operation, Object: f.Object,
		Reason: event.RuleAllowed, Rule: f.Rule.String(), Count: 1, First: time.Now(),
	}
	e.Last = e.First
	if f.Inside {
		e.Process, e.Ancestors = s.who()
	}
	return e
}
