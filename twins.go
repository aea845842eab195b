package sallyport

import (
	"sync"
	"time"

	"github.com/sallyport/sallyport/internal/event"
)

// Some attempts are seen twice: by the supervisor, which refuses a connect(2)
// to a unix socket and records it, and by the kernel's programs, which see the
// call fail; by the packet rules, which refuse a ping, and by the call that sent
// it. One attempt is one event.

const (
	packetHold = 400 * time.Millisecond // until what the call says must have come
	twinsMax   = 4096                   // of each kind
)

// twins pairs them. The supervisor records before it answers, so its record is
// there first; a packet's comes whenever the kernel flushes it.
type twins struct {
	mu       sync.Mutex
	answered map[string]uint64 // by exec id: connects that the supervisor refused
	pinged   map[event.Object]uint64
	held     []heldPacket
}

type heldPacket struct {
	event event.Event
	since time.Time
}

func newTwins() *twins {
	return &twins{answered: map[string]uint64{}, pinged: map[event.Object]uint64{}}
}

// supervisor notes what the supervisor refused.
func (t *twins) supervisor(e event.Event) {
	isConnect := e.Operation == event.UnixConnect || e.Object.Syscall == "connect"
	if !isConnect || e.Process == nil || e.Errno != "EACCES" && e.Errno != "EPERM" {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.answered) >= twinsMax {
		clear(t.answered) // their twins came long ago
	}
	t.answered[e.Process.ExecID] += max(e.Count, 1)
}

// call takes what the kernel saw of a failed call, and gives how many of its
// attempts have no event yet.
func (t *twins) call(e event.Event, name string) uint64 {
	n := max(e.Count, 1)
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case name == "connect" && e.Operation == event.UnixConnect && e.Process != nil:
		told := min(n, t.answered[e.Process.ExecID])
		if t.answered[e.Process.ExecID] -= told; t.answered[e.Process.ExecID] == 0 {
			delete(t.answered, e.Process.ExecID)
		}
		return n - told
	case name == "ioctl" && e.Operation == event.SysRefused:
		return 0 // the filter refuses these, and has recorded it
	case e.Operation == event.NetICMP && e.Layer == event.LayerTrace && name != "connect":
		if len(t.pinged) >= twinsMax {
			clear(t.pinged)
		}
		t.pinged[destination(e)] += n
	}
	return n
}

func destination(e event.Event) event.Object {
	return event.Object{Addr: e.Object.Addr, Proto: e.Object.Proto}
}

// packet takes a refused packet. It gives those that are to be recorded now.
func (t *twins) packet(e event.Event, now time.Time) []event.Event {
	if e.Operation != event.NetICMP {
		return []event.Event{e}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.held = append(t.held, heldPacket{e, now})
	if len(t.held) > twinsMax {
		return t.release(1)
	}
	return nil
}

// due gives the packets that nobody claimed in time.
func (t *twins) due(now time.Time) []event.Event {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := 0
	for n < len(t.held) && now.Sub(t.held[n].since) >= packetHold {
		n++
	}
	return t.release(n)
}

// all gives the rest, when everything has been read.
func (t *twins) all() []event.Event {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.release(len(t.held))
}

func (t *twins) release(n int) (out []event.Event) {
	for _, h := range t.held[:n] {
		to := destination(h.event)
		if t.pinged[to] > 0 {
			if t.pinged[to]--; t.pinged[to] == 0 {
				delete(t.pinged, to)
			}
			continue
		}
		out = append(out, h.event)
	}
	t.held = t.held[n:]
	return out
}
