package ask

import (
	"sync"

	"github.com/sallyport/sallyport/internal/event"
)

// Watcher is told that there is something new; what it is, it looks up. One
// that answers is somebody to ask for as long as it watches.
type Watcher struct {
	// C has a value when something has changed.
	C <-chan struct{}

	b      *Broker
	signal chan struct{}

	mu     sync.Mutex
	events []event.Event
	lost   uint64
	most   int
}

// maxEvents is how many events a watcher can be behind.
const maxEvents = 512

// Watch adds a watcher. events says whether it wants what the sandbox records.
func (b *Broker) Watch(answers, events bool) *Watcher {
	w := &Watcher{b: b, signal: make(chan struct{}, 1)}
	w.C = w.signal
	if events {
		w.most = maxEvents
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.watchers[w] = answers
	w.wake()
	return w
}

// Stop ends the watch. If nobody is left to answer, what is open is refused.
func (w *Watcher) Stop() { w.Absent(true) }

// Absent says whether a watcher that answers cannot be asked for now, because
// what it answers by is not there; gone is for good.
func (w *Watcher) Absent(gone bool) {
	w.b.mu.Lock()
	defer w.b.mu.Unlock()
	w.b.watchers[w] = false
	if gone {
		delete(w.b.watchers, w)
	}
	if !w.b.somebody() {
		w.b.tell(w.b.table.dismiss(Outcome{By: "disconnect", Reason: event.Unanswered, Text: "who was asked has gone"}))
	}
}

// Present takes Absent back.
func (w *Watcher) Present() {
	w.b.mu.Lock()
	defer w.b.mu.Unlock()
	w.b.watchers[w] = true
	w.wake()
}

// somebody reports whether there is anybody to ask.
func (b *Broker) somebody() bool {
	for _, answers := range b.watchers {
		if answers {
			return true
		}
	}
	return false
}

func (w *Watcher) wake() {
	select {
	case w.signal <- struct{}{}:
	default:
	}
}

// Event hands an event to who wants them. It never blocks: what a watcher is too
// slow for is counted.
func (b *Broker) Event(e event.Event) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for w := range b.watchers {
		w.add(e)
	}
}

func (w *Watcher) add(e event.Event) {
	if w.most == 0 {
		return
	}
	w.mu.Lock()
	if len(w.events) < w.most {
		w.events = append(w.events, e)
	} else {
		w.lost++
	}
	w.mu.Unlock()
	w.wake()
}

// Events gives the events since the last call, and how many more there were.
func (w *Watcher) Events() (events []event.Event, lost uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	events, lost = w.events, w.lost
	w.events, w.lost = nil, 0
	return events, lost
}
