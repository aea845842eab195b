package proxy

import (
	"net/netip"
	"sync"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/sallyport/sallyport/internal/event"
)

// twinQueries finds the second half of one look-up. getaddrinfo(3) asks for A
// and AAAA at once from one socket, Go and others at once from two: that is one
// attempt, so one event.
type twinQueries struct {
	mu   sync.Mutex
	ring [64]twin
	next int
}

type twin struct {
	client netip.AddrPort
	exec   string // of the process, if known
	name   dnsmessage.Name
	kind   dnsmessage.Type
	at     time.Time
}

// The longest time between the halves: from one socket it is glibc's own
// time-out; from two, of one process, it only has to bridge a busy machine.
const (
	oneSocketWindow  = 5 * time.Second
	oneProcessWindow = time.Second
)

// second reports whether the query is the other half of a recent one. who finds
// the process, which takes time, and is not always asked.
func (t *twinQueries) second(client netip.AddrPort, q *dnsmessage.Question, who func() (*event.Process, []event.Process)) bool {
	if q.Type != dnsmessage.TypeA && q.Type != dnsmessage.TypeAAAA || !client.IsValid() {
		return false
	}
	now := time.Now()
	if t.take(q, now.Add(-oneSocketWindow), func(o *twin) bool { return o.client == client }) {
		return true
	}
	exec := ""
	if p, _ := who(); p != nil {
		exec = p.ExecID
	}
	if exec != "" && t.take(q, now.Add(-oneProcessWindow), func(o *twin) bool { return o.exec == exec }) {
		return true
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ring[t.next] = twin{client, exec, q.Name, q.Type, time.Now()}
	t.next = (t.next + 1) % len(t.ring)
	return false
}

// take removes the first half of a look-up, if there is one: a third query is a
// new attempt.
func (t *twinQueries) take(q *dnsmessage.Question, since time.Time, same func(*twin) bool) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := range t.ring {
		if o := &t.ring[i]; o.name == q.Name && o.kind != q.Type && o.at.After(since) && same(o) {
			*o = twin{}
			return true
		}
	}
	return false
}
