package proxy

import (
	"errors"
	"fmt"

	"github.com/sallyport/sallyport/internal/event"
	"github.com/sallyport/sallyport/internal/policy"
)

// door is how a client came in, which says how it is answered. Whatever the
// door, the way through is the same.
type door interface {
	opened() error // the other side is reached: bytes may flow
	refused(t target, d policy.Decision, detail string)
	failed(t target, err error)
}

// named replaces an address of the sandbox's own DNS by the name it stands for.
// It reports false for one that stands for none.
func (p *Proxy) named(req policy.NetRequest) (policy.NetRequest, bool) {
	if !req.Host.IsAddr() || !fakeRange.Contains(req.Host.Addr) {
		return req, true
	}
	name, ok := p.fakes.name(req.Host.Addr)
	if !ok {
		return req, false
	}
	return policy.NetRequest{Host: policy.Host{Name: name}, Port: req.Port}, true
}

// pass takes a client to where it wants to go, if it may.
func (s *session) pass(req policy.NetRequest, at door) {
	req, d, up := s.open(req, at)
	if up == nil {
		return
	}
	defer s.p.closeUp(up)
	if err := at.opened(); err != nil {
		s.allow(target{req: req}, d).end()
		s.conn.Close()
		return
	}
	switch {
	case req.Port == 443 && !s.p.allowsNoSNI(req):
		s.passTLS(req, d, up)
	case req.Port == 80:
		s.passHTTP(req, d, up)
	default:
		s.passAny(req, d, up)
	}
}

// open decides and dials. Where it gives no connection, the client has been
// answered and the attempt recorded.
func (s *session) open(req policy.NetRequest, at door) (policy.NetRequest, policy.Decision, stream) {
	req, known := s.p.named(req)
	t := target{req: req}
	if !known {
		d := builtin("unknown-destination", event.UnknownDest)
		const detail = "no name has this address"
		s.deny(t, d, detail)
		at.refused(t, d, detail)
		return req, d, nil
	}
	d := s.decide(req)
	if !d.Allowed() {
		s.deny(t, d, "")
		at.refused(t, d, "")
		return req, d, nil
	}
	up, err := s.p.dial(s.p.ctx, req, d)
	var refused *refusedError
	switch {
	case errors.As(err, &refused):
		t.addr = refused.addr
		detail := ""
		if !req.Host.IsAddr() {
			detail = fmt.Sprintf("%s resolves to %s", req.Host, refused.addr)
		}
		s.deny(t, refused.d, detail)
		at.refused(t, refused.d, detail)
		return req, d, nil
	case err != nil:
		s.unreachable(t, d, err)
		at.failed(t, err)
		return req, d, nil
	}
	if !s.p.track(up) {
		at.failed(t, s.p.ctx.Err())
		return req, d, nil
	}
	return req, d, up
}

// closeUp ends a connection that open made.
func (p *Proxy) closeUp(up stream) {
	up.Close()
	p.untrack(up)
}

// passTLS wants a ClientHello with the right name before any byte goes on.
func (s *session) passTLS(req policy.NetRequest, d policy.Decision, up stream) {
	hello, err := s.inspectTLS(req)
	var bad *innerError
	if errors.As(err, &bad) {
		up.Close()
		s.refuseInner(req, bad)
		return
	}
	defer s.allow(target{req: req}, d).end()
	if err == nil {
		err = s.forward(up, hello)
	}
	if err != nil {
		reset(s.conn)
		return
	}
	(&relay{p: s.p, client: s.conn, upstream: up}).run()
}

// refuseInner records and answers something refused inside a connection.
func (s *session) refuseInner(req policy.NetRequest, bad *innerError) {
	t := target{req: req}
	s.deny(t, bad.d, bad.detail)
	s.refuseAs(bad.kind, t, bad.d, bad.detail)
}

// passAny lets the server begin, and looks at the client's first bytes.
func (s *session) passAny(req policy.NetRequest, d policy.Decision, up stream) {
	r := &relay{p: s.p, client: s.conn, upstream: up}
	var open *allowed
	denied := false
	r.first = func() error {
		taken, err := s.inspectFirst(req)
		var bad *innerError
		if errors.As(err, &bad) {
			denied = true
			r.parting.Store(true)
			reset(up)
			s.refuseInner(req, bad)
			return err
		}
		open = s.allow(target{req: req}, d)
		if err != nil {
			return err
		}
		return s.forward(up, taken)
	}
	r.run()
	if open == nil && !denied {
		open = s.allow(target{req: req}, d)
	}
	open.end()
}

// passHTTP wants TLS with the right name, or plain HTTP whose every request is
// for the right host.
func (s *session) passHTTP(req policy.NetRequest, d policy.Decision, up stream) {
	s.readWithin(s.p.cfg.Limits.KeepAlive)
	err := s.await()
	if err == nil {
		_, err = s.reader().Peek(1)
	}
	if err != nil { // it says nothing
		s.allow(target{req: req}, d).end()
		s.conn.Close()
		return
	}
	switch k := s.guess(req.Port); k {
	case kindTLS:
		s.passTLS(req, d, up)
	case kindHTTP:
		s.serveHTTPTo(req, d, up)
	default:
		up.Close()
		s.refuseInner(req, inner(k, "http-request", event.RequestInvalid, "port %d carries no HTTP", req.Port))
	}
}
