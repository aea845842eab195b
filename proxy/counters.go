package proxy

import (
	"errors"
	"maps"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/sallyport/sallyport/internal/event"
)

// Counters is a snapshot for a metrics scrape; all but OpenConns only grow.
type Counters struct {
	OpenConns    int64  // captured and explicit connections open now
	Conns        uint64 // accepted, refused ones included
	AcceptErrors uint64
	Panics       uint64
	BytesOut     uint64 // sandbox to outside
	BytesIn      uint64 // outside to sandbox
	Requests     uint64 // plain HTTP requests that were forwarded
	DNSQueries   uint64
	DNSMalformed uint64
	Names        int // names that have an address
	Resolved     uint64
	DialErrors   uint64
	Allowed      uint64                  // connections, unreachable ones included
	Denied       map[event.Reason]uint64 // by reason, non-zero ones
}

type counters struct {
	openConns    atomic.Int64
	openDNS      atomic.Int64
	conns        atomic.Uint64
	acceptErrors atomic.Uint64
	panics       atomic.Uint64
	bytesOut     atomic.Uint64
	bytesIn      atomic.Uint64
	requests     atomic.Uint64
	dnsQueries   atomic.Uint64
	dnsMalformed atomic.Uint64
	dnsAllowed   atomic.Uint64
	dnsDenied    atomic.Uint64
	resolved     atomic.Uint64
	dialErrors   atomic.Uint64
	allowed      atomic.Uint64
	denied       [256]atomic.Uint64 // by event.Reason

	mu        sync.Mutex // of what follows
	upstream  map[event.Upstream]uint64
	decisions event.Durations
}

// Counters reads every counter. It is cheap and safe at any time.
func (p *Proxy) Counters() Counters {
	c := &p.count
	out := Counters{
		OpenConns:    c.openConns.Load(),
		Conns:        c.conns.Load(),
		AcceptErrors: c.acceptErrors.Load(),
		Panics:       c.panics.Load(),
		BytesOut:     c.bytesOut.Load(),
		BytesIn:      c.bytesIn.Load(),
		Requests:     c.requests.Load(),
		DNSQueries:   c.dnsQueries.Load(),
		DNSMalformed: c.dnsMalformed.Load(),
		Names:        p.fakes.len(),
		Resolved:     c.resolved.Load(),
		DialErrors:   c.dialErrors.Load(),
		Allowed:      c.allowed.Load(),
		Denied:       map[event.Reason]uint64{},
	}
	for r := range c.denied {
		if n := c.denied[r].Load(); n > 0 {
			out.Denied[event.Reason(r)] = n
		}
	}
	return out
}

// Traffic reads the counters that become metrics.
func (p *Proxy) Traffic() event.Traffic {
	c := &p.count
	t := event.Traffic{Open: c.openConns.Load(), BytesIn: c.bytesIn.Load(), BytesOut: c.bytesOut.Load(),
		DNSAllowed: c.dnsAllowed.Load(), DNSDenied: c.dnsDenied.Load()}
	c.mu.Lock()
	defer c.mu.Unlock()
	t.Upstream, t.Decisions = maps.Clone(c.upstream), c.decisions
	return t
}

// decided counts a decision that was asked for at a time.
func (c *counters) decided(since time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.decisions.Observe(time.Since(since))
}

func (c *counters) upstreamError(err error) {
	c.dialErrors.Add(1)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.upstream == nil {
		c.upstream = map[event.Upstream]uint64{}
	}
	c.upstream[upstreamOf(err)]++
}

// upstreamOf gives the one word that a metric has for an error.
func upstreamOf(err error) event.Upstream {
	var name *net.DNSError
	switch {
	case errors.As(err, &name):
		return event.UpstreamName
	case isTimeout(err):
		return event.UpstreamTimeout
	case errors.Is(err, syscall.ECONNREFUSED):
		return event.UpstreamRefused
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return event.UpstreamUnreachable
	}
	return event.UpstreamOther
}
