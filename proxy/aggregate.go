package proxy

import (
	"sync"
	"time"

	"github.com/sallyport/sallyport/internal/event"
)

// aggregate makes one event of all allowed connections of a process to a host
// and port. An entry is emitted when none of its connections has been open for
// a while, and at the end.
type aggregate struct {
	emit func(event.Event)

	mu      sync.Mutex
	entries map[allowKey]*allowed
	full    int // so many entries, and the quiet ones are emitted early
}

// maxAggregated bounds the quiet entries; those with connections are bounded by
// the connections.
const maxAggregated = 4096

// maxAge is how long an entry may go on without being seen: one that is used
// again and again is emitted when it is next without a connection.
const maxAge = time.Minute

type allowKey struct {
	pid     int
	exec    string
	host    event.Text
	addr    string // only where there is no name
	port    uint16
	rule    string
	verdict event.Verdict
	reason  event.Reason
	// decision keeps what an authorizer decided apart.
	decision event.Text
}

// allowed is one entry. One that is not in the map has been emitted.
type allowed struct {
	in    *aggregate
	key   allowKey
	ev    event.Event
	open  int
	quiet time.Time // when open became 0
}

func newAggregate(emit func(event.Event)) *aggregate {
	return &aggregate{emit: emit, entries: map[allowKey]*allowed{}, full: maxAggregated}
}

func keyOf(e *event.Event) allowKey {
	k := allowKey{
		host: e.Object.Host, port: e.Object.Port, rule: e.Rule, verdict: e.Verdict, reason: e.Reason, decision: e.Decision,
	}
	if k.host == "" {
		k.addr = e.Object.Addr
	}
	if e.Process != nil {
		k.pid, k.exec = e.Process.PID, e.Process.ExecID
	}
	return k
}

// begin counts one connection in. It must be ended.
func (a *aggregate) begin(e event.Event) *allowed {
	k := keyOf(&e)
	a.mu.Lock()
	x := a.entries[k]
	var early []event.Event
	switch {
	case x == nil:
		if len(a.entries) >= a.full {
			early = a.takeQuiet(time.Time{})
			a.full = max(maxAggregated, 2*len(a.entries))
		}
		x = &allowed{in: a, key: k, ev: e}
		a.entries[k] = x
	default:
		x.ev.Count += e.Count
		x.ev.Last = e.Last
		if e.Detail != "" {
			x.ev.Detail = e.Detail
		}
	}
	x.open++
	a.mu.Unlock()
	a.emitAll(early)
	return x
}

// note adds to the event what became of one of its connections.
func (x *allowed) note(detail string) {
	x.in.mu.Lock()
	x.ev.Detail = event.Text(clip(detail))
	x.in.mu.Unlock()
}

// end counts a connection out; on nil it does nothing.
func (x *allowed) end() {
	if x == nil {
		return
	}
	x.in.mu.Lock()
	if x.open--; x.open == 0 {
		x.quiet = time.Now()
	}
	x.in.mu.Unlock()
}

// flush emits the entries that have been quiet since before t; the zero time
// emits all quiet ones.
func (a *aggregate) flush(t time.Time) {
	a.mu.Lock()
	out := a.takeQuiet(t)
	a.mu.Unlock()
	a.emitAll(out)
}

func (a *aggregate) emitAll(evs []event.Event) {
	for _, e := range evs {
		a.emit(e)
	}
}

func (a *aggregate) takeQuiet(t time.Time) []event.Event {
	var out []event.Event
	for k, x := range a.entries {
		if x.open == 0 && (t.IsZero() || x.quiet.Before(t) || x.ev.First.Before(t.Add(-maxAge))) {
			out = append(out, x.ev)
			delete(a.entries, k)
		}
	}
	return out
}
