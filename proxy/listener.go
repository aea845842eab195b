package proxy

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/sallyport/sallyport/internal/event"
)

// Accept backs off so between failures: EMFILE and ENFILE pass when
// connections end.
const (
	minBackoff = 5 * time.Millisecond
	maxBackoff = time.Second
)

// acceptLoop hands each connection to serve, on a goroutine of its own. It ends
// only when the proxy closes.
func (p *Proxy) acceptLoop(l net.Listener, serve func(net.Conn)) {
	backoff := minBackoff
	for {
		c, err := l.Accept()
		if p.ctx.Err() != nil {
			if err == nil {
				c.Close()
			}
			return
		}
		if err != nil {
			p.count.acceptErrors.Add(1)
			select {
			case <-p.ctx.Done():
			case <-time.After(backoff):
			}
			backoff = min(2*backoff, maxBackoff)
			continue
		}
		backoff = minBackoff
		p.goTracked(c, func() { p.guard(c, serve) })
	}
}

// guard keeps a panic from leaving the connection it happened in.
func (p *Proxy) guard(c net.Conn, serve func(net.Conn)) {
	defer func() {
		if r := recover(); r != nil {
			p.panicked(r)
		}
	}()
	serve(c)
}

// panicked records a panic: the attempt was refused, and we were at fault.
func (p *Proxy) panicked(r any) {
	p.count.panics.Add(1)
	p.emit(event.Event{
		Verdict: event.Deny, Layer: event.LayerProxy, Operation: event.NetConnect,
		Reason: event.RequestInvalid, Rule: "builtin:internal-error",
		Detail: event.Text(fmt.Sprintf("the proxy failed: %v", r)),
	})
}

// serveCaptured serves one connection of the sandbox, explicit or transparent.
func (p *Proxy) serveCaptured(c net.Conn) {
	if !p.admit(c) {
		return
	}
	defer p.count.openConns.Add(-1)
	client, ok := c.(stream)
	if !ok {
		p.panicked(fmt.Sprintf("accepted a %T", c))
		return
	}
	s := &session{p: p, conn: client, ends: Endpoints{Proto: "tcp"}}
	defer s.release()
	defer s.limitTotal()()
	if a, ok := c.RemoteAddr().(*net.TCPAddr); ok {
		s.ends.Client = unmapPort(a.AddrPort())
	}
	origin, err := p.cfg.Origin(c)
	if err == nil && (!origin.IsValid() || origin.Addr().IsUnspecified()) {
		err = errors.New("no original destination")
	}
	if err != nil {
		s.deny(target{}, builtin("unknown-destination", event.UnknownDest), err.Error())
		reset(c)
		return
	}
	s.ends.Origin = unmapPort(origin)
	if p.isSelf(s.ends.Origin) {
		s.serveExplicit()
		return
	}
	s.serveTransparent()
}

// serveUnix serves one connection of the explicit proxy's unix socket.
func (p *Proxy) serveUnix(c net.Conn) {
	if !p.admit(c) {
		return
	}
	defer p.count.openConns.Add(-1)
	u, ok := c.(*net.UnixConn)
	if !ok {
		p.panicked(fmt.Sprintf("accepted a %T", c))
		return
	}
	s := &session{p: p, conn: u, ends: Endpoints{Proto: "unix", Socket: socketInode(u)}}
	defer s.release()
	defer s.limitTotal()()
	s.serveExplicit()
}

// admit counts a connection in, or resets and records it where the sandbox has
// too many.
func (p *Proxy) admit(c net.Conn) bool {
	p.count.conns.Add(1)
	if n := p.count.openConns.Add(1); n <= int64(p.cfg.Limits.MaxConns) {
		return true
	}
	p.count.openConns.Add(-1)
	d := builtin("connection-limit", event.LimitExceeded)
	e := denial(event.LayerProxy, event.NetConnect, d)
	if a, err := p.cfg.Origin(c); err == nil && a.IsValid() {
		e.Object = event.Object{Addr: a.Addr().Unmap().WithZone("").String(), Port: a.Port(), Proto: "tcp"}
	}
	e.Detail = event.Text(fmt.Sprintf("more than %d connections at once", p.cfg.Limits.MaxConns))
	p.emit(e)
	reset(c)
	return false
}

// isSelf reports whether a destination is the explicit proxy.
func (p *Proxy) isSelf(a netip.AddrPort) bool {
	for _, s := range p.cfg.Self {
		if unmapPort(s) == a {
			return true
		}
	}
	return false
}

// unmapPort makes the one form of an address as a socket may give it.
func unmapPort(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap().WithZone(""), a.Port())
}

// socketOf gives what is under TLS.
func socketOf(c net.Conn) net.Conn {
	if t, ok := c.(*tls.Conn); ok {
		return t.NetConn()
	}
	return c
}

// reset ends a connection with RST, so that the client knows at once.
func reset(c net.Conn) {
	c = socketOf(c)
	if t, ok := c.(interface{ SetLinger(int) error }); ok {
		t.SetLinger(0)
	}
	c.Close()
}
