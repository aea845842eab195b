package proxy

import (
	"net/netip"
	"sync"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// twinQueries finds the second half of one look-up. getaddrinfo(3) asks for A
// and AAAA at once from one socket: that is one attempt, so one event.
type twinQueries struct {
	mu   sync.Mutex
	ring [64]twin
	next int
}

type twin struct {
	client netip.AddrPort
	name   dnsmessage.Name
	kind   dnsmessage.Type
	at     time.Time
}

// twinWindow is the longest time between the halves: glibc's own time-out.
const twinWindow = 5 * time.Second

// second reports whether the query is the other half of a recent one.
func (t *twinQueries) second(client netip.AddrPort, q *dnsmessage.Question) bool {
	if q.Type != dnsmessage.TypeA && q.Type != dnsmessage.TypeAAAA || !client.IsValid() {
		return false
	}
	now := time.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := range t.ring {
		o := &t.ring[i]
		if o.client == client && o.kind != q.Type && o.name == q.Name && now.Sub(o.at) < twinWindow {
			*o = twin{} // a third query is a new attempt
			return true
		}
	}
	t.ring[t.next] = twin{client, q.Name, q.Type, now}
	t.next = (t.next + 1) % len(t.ring)
	return false
}
