package sandbox

import (
	"encoding/binary"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/internal/event"
)

// opened remembers who opened a TCP connection. The supervisor performs every
// connect(2), so it knows, at the price of a look at the caller; to search for
// the holder of a socket takes a thousand times as long, and comes too late for
// who has gone.
type opened struct {
	mu    sync.Mutex
	ended sync.Cond // of mu
	// The newer half and the older: what nobody asks for, since the connection
	// was refused before, falls out.
	fresh, old map[ends]opener
	// How many calls have begun, and which of them have not ended: a connection can
	// reach the proxy before connect(2) returns here. Before Linux 5.19 (see redone)
	// they end in another order.
	begun uint64
	under map[uint64]struct{}
}

type ends struct{ client, origin netip.AddrPort }

type opener struct {
	process   *event.Process
	ancestors []event.Process
	at        time.Time
}

const (
	maxOpened = 4096
	// openedFor is how long the same ends can mean no other connection.
	openedFor = 30 * time.Second
)

func newOpened() *opened {
	o := &opened{fresh: map[ends]opener{}, under: map[uint64]struct{}{}}
	o.ended.L = &o.mu
	return o
}

// begin is called before a connect(2), and end, with its number, after it.
func (o *opened) begin() (call uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.begun++
	o.under[o.begun] = struct{}{}
	return o.begun
}

// end remembers a connection, unless its ends are invalid.
func (o *opened) end(call uint64, e ends, who opener) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.under, call)
	if e.client.IsValid() && e.origin.IsValid() {
		if len(o.fresh) >= maxOpened/2 {
			o.fresh, o.old = map[ends]opener{}, o.fresh
		}
		o.fresh[e] = who
	}
	o.ended.Broadcast()
}

// take gives, once, who opened a connection. It waits for the calls that have
// begun, of which none waits for anything.
func (o *opened) take(client, origin netip.AddrPort) (opener, bool) {
	e := ends{client, origin}
	o.mu.Lock()
	defer o.mu.Unlock()
	for until := o.begun; ; o.ended.Wait() {
		for _, half := range []map[ends]opener{o.fresh, o.old} {
			if who, ok := half[e]; ok {
				delete(half, e)
				return who, time.Since(who.at) < openedFor
			}
		}
		if o.over(until) {
			return opener{}, false
		}
	}
}

// over reports whether every call up to one has ended.
func (o *opened) over(last uint64) bool {
	for call := range o.under {
		if call <= last {
			return false
		}
	}
	return true
}

// opening begins a connect(2) that may reach the proxy; the result ends it. nil:
// nobody waits for it any more, and what is connected now would be nobody's.
func (l *listener) opening(c *connecting, addr []byte) func(unix.Errno) {
	origin := networkAddress(addr)
	if l.opened == nil || c.kind != unix.SOCK_STREAM || !origin.IsValid() || origin.Addr().IsLoopback() {
		return func(unix.Errno) {}
	}
	who := opener{at: time.Now()}
	who.process, who.ancestors = l.callers.of(c.tid)
	if !l.valid(c.id) {
		return nil
	}
	if who.process == nil {
		return func(unix.Errno) {}
	}
	call := l.opened.begin()
	return func(errno unix.Errno) {
		var client netip.AddrPort
		if errno == 0 || errno == unix.EINPROGRESS {
			client = localAddress(c.sock)
		}
		l.opened.end(call, ends{client, origin}, who)
	}
}

// networkAddress reads a struct sockaddr_in (ip(7)) or sockaddr_in6 (ipv6(7));
// an IPv4 address in IPv6 is that address.
func networkAddress(b []byte) netip.AddrPort {
	const port, v4, v6 = 2, 4, 8 // where they stand
	if len(b) < v4 {
		return netip.AddrPort{}
	}
	var addr netip.Addr
	switch family := binary.NativeEndian.Uint16(b); {
	case family == unix.AF_INET && len(b) >= v4+4:
		addr = netip.AddrFrom4([4]byte(b[v4:]))
	case family == unix.AF_INET6 && len(b) >= v6+16:
		addr = netip.AddrFrom16([16]byte(b[v6:])).Unmap()
	default:
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(addr, binary.BigEndian.Uint16(b[port:]))
}

func localAddress(sock int) netip.AddrPort {
	sa, err := unix.Getsockname(sock)
	if err != nil {
		return netip.AddrPort{}
	}
	switch a := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(a.Addr), uint16(a.Port))
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(a.Addr).Unmap(), uint16(a.Port))
	}
	return netip.AddrPort{}
}
