package proxy

import (
	"github.com/sallyport/sallyport/internal/event"
	"github.com/sallyport/sallyport/internal/policy"
)

// serveTransparent serves a connection whose client believes it has reached its
// destination.
func (s *session) serveTransparent() {
	if s.serveCanary() {
		return
	}
	req := policy.NetRequest{
		Host: policy.Host{Addr: s.ends.Origin.Addr()},
		Port: s.ends.Origin.Port(),
	}
	s.via = viaTransparent
	s.pass(req, captured{s})
}

// captured is the door of transparent connections.
type captured struct{ s *session }

func (c captured) opened() error { return nil }

func (c captured) refused(t target, d policy.Decision, detail string) {
	c.s.refuseRaw(t, d, detail)
}

// failed resets: the client has a connection to a destination that was not
// reached, and there is no other way to say so.
func (c captured) failed(target, error) { reset(c.s.conn) }

// serveExplicit serves a connection to the proxy itself.
func (s *session) serveExplicit() {
	s.readWithin(s.p.cfg.Limits.KeepAlive)
	if s.await() != nil {
		s.conn.Close()
		return
	}
	s.readWithin(s.p.cfg.Limits.HelloTimeout)
	first, err := s.reader().Peek(1)
	if err != nil {
		s.conn.Close()
		return
	}
	switch first[0] {
	case 5:
		s.serveSOCKS5()
	case 4:
		s.deny(target{}, builtin("socks-request", event.RequestInvalid), "SOCKS4: only SOCKS5 is spoken here")
		s.lastWords([]byte{0, 0x5b, 0, 0, 0, 0, 0, 0}) // rejected
	default:
		s.serveHTTPProxy()
	}
}
