package sandbox

import (
	"encoding/binary"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/internal/event"
)

const (
	maxConnections = 16384
	connectGrace   = 200 * time.Millisecond // for a connect that is being performed to be noted
)

// connections remembers for whom the supervisor connected what: the caller of
// connect(2) waits meanwhile, so it is known exactly. Source ports can clash and
// be used again; together with the destination they name one connection at a
// time.
type connections struct {
	mu       sync.Mutex
	byEnds   map[ends]who
	fifo     []ends
	underWay int
	changed  chan struct{} // closed, and made anew, when one is no longer under way
}

type ends struct{ client, origin netip.AddrPort }

type who struct {
	process   *event.Process
	ancestors []event.Process
}

func newConnections() *connections {
	return &connections{byEnds: map[ends]who{}, changed: make(chan struct{})}
}

// ConnectedBy says which process made a TCP connection by connect(2); nil where
// it was made otherwise. It asks after Attribute only.
func (s *Sandbox) ConnectedBy(client, origin netip.AddrPort) (*event.Process, []event.Process) {
	return s.made.find(ends{client, origin})
}

// find waits for connects that are being performed: the other end may know of a
// connection before the one who made it does.
func (m *connections) find(e ends) (*event.Process, []event.Process) {
	if m == nil {
		return nil, nil
	}
	end := time.NewTimer(connectGrace)
	defer end.Stop()
	for {
		m.mu.Lock()
		w, ok := m.byEnds[e]
		changed, wait := m.changed, m.underWay > 0
		m.mu.Unlock()
		if ok || !wait {
			return w.process, w.ancestors
		}
		select {
		case <-changed:
		case <-end.C:
			return nil, nil
		}
	}
}

func (m *connections) put(e ends, w who) {
	if _, ok := m.byEnds[e]; !ok {
		m.fifo = append(m.fifo, e)
	}
	m.byEnds[e] = w
	if len(m.fifo) > maxConnections {
		delete(m.byEnds, m.fifo[0])
		m.fifo = m.fifo[1:]
	}
}

// note remembers who makes a connection: it is called before the connect, and
// what it returns after.
func (l *listener) note(c *connecting) (done func()) {
	m := l.made
	if m == nil || c.kind != unix.SOCK_STREAM || c.domain != unix.AF_INET && c.domain != unix.AF_INET6 {
		return func() {}
	}
	p, ancestors := l.callers.of(c.tid)
	if !l.valid(c.id) {
		p = nil
	}
	m.mu.Lock()
	m.underWay++
	m.mu.Unlock()
	return func() {
		e, ok := c.ends()
		m.mu.Lock()
		defer m.mu.Unlock()
		if ok && p != nil {
			m.put(e, who{p, ancestors})
		}
		m.underWay--
		close(m.changed)
		m.changed = make(chan struct{})
	}
}

// ends gives both ends of a connection that has just begun.
func (c *connecting) ends() (ends, bool) {
	to, ok := inetAddress(c.addr)
	sa, err := unix.Getsockname(c.sock)
	if !ok || err != nil {
		return ends{}, false
	}
	var from netip.AddrPort
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		from = netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port))
	case *unix.SockaddrInet6:
		from = netip.AddrPortFrom(netip.AddrFrom16(sa.Addr).Unmap(), uint16(sa.Port))
	}
	return ends{from, to}, from.Port() != 0
}

// inetAddress reads a struct sockaddr_in or sockaddr_in6 (ip(7), ipv6(7)). No
// address means this host.
func inetAddress(b []byte) (netip.AddrPort, bool) {
	if len(b) < 16 {
		return netip.AddrPort{}, false
	}
	port := binary.BigEndian.Uint16(b[2:])
	switch family := binary.NativeEndian.Uint16(b); {
	case family == unix.AF_INET:
		a := netip.AddrFrom4([4]byte(b[4:8]))
		if a.IsUnspecified() {
			a = netip.AddrFrom4([4]byte{127, 0, 0, 1})
		}
		return netip.AddrPortFrom(a, port), true
	case family == unix.AF_INET6 && len(b) >= 24:
		a := netip.AddrFrom16([16]byte(b[8:24])).Unmap()
		if a.IsUnspecified() && a.Is6() {
			a = netip.IPv6Loopback()
		}
		return netip.AddrPortFrom(a, port), true
	}
	return netip.AddrPort{}, false
}
