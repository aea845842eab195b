package proxy

import (
	"sync/atomic"

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
	resolved     atomic.Uint64
	dialErrors   atomic.Uint64
	allowed      atomic.Uint64
	denied       [256]atomic.Uint64 // by event.Reason
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
