package sallyport

import (
	"fmt"
	"time"

	"github.com/sallyport/sallyport/internal/event"
)

const (
	throttleBurst  = 1000 // events one by one, whatever their rate
	throttleRate   = 100  // a second from then on
	throttleWindow = 5 * time.Second
	throttleKinds  = 1024
)

// throttle keeps a flood of different attempts from filling the disk: beyond a
// rate, those of one process and operation become one event with their number,
// without their objects. The first of each kind always passes, and no attempt
// goes uncounted. It is not for concurrent use, and has no clock of its own.
type throttle struct {
	tokens float64
	last   time.Time
	begun  time.Time // of the window; zero: nothing is held back
	kinds  map[floodKind]*event.Event
}

// floodKind is what held-back attempts have in common.
type floodKind struct {
	execID    string
	operation event.Operation
	verdict   event.Verdict
	reason    event.Reason
	rule      string
}

func newThrottle() *throttle {
	return &throttle{tokens: throttleBurst, kinds: map[floodKind]*event.Event{}}
}

// pass gives the events that are to be recorded now: this one, or none, and
// those of the window that has ended.
func (t *throttle) pass(e event.Event, now time.Time) []event.Event {
	out := t.tick(now)
	if t.last.IsZero() {
		t.last = now
	}
	t.tokens = min(throttleBurst, t.tokens+now.Sub(t.last).Seconds()*throttleRate)
	t.last = now
	k := floodKind{operation: e.Operation, verdict: e.Verdict, reason: e.Reason, rule: e.Rule}
	if e.Process != nil {
		k.execID = e.Process.ExecID
	}
	held, known := t.kinds[k]
	if t.tokens >= 1 || !known && len(t.kinds) < throttleKinds {
		t.tokens--
		if !known {
			t.remember(k)
		}
		return append(out, e)
	}
	if !known { // more kinds at once than are told apart
		k = floodKind{operation: e.Operation, verdict: e.Verdict, reason: e.Reason, rule: e.Rule}
		held = t.kinds[k]
	}
	if held == nil {
		first := e
		first.Object, first.Detail = event.Object{}, ""
		if k.execID == "" {
			first.Process, first.Ancestors = nil, nil
		}
		t.kinds[k] = &first
	} else {
		held.Count += e.Count
		held.Last = e.Last
	}
	if t.begun.IsZero() {
		t.begun = now
	}
	return out
}

// remember notes a kind of which nothing is held back. Those from before a quiet
// time are forgotten.
func (t *throttle) remember(k floodKind) {
	if len(t.kinds) >= throttleKinds && t.begun.IsZero() {
		clear(t.kinds)
	}
	if len(t.kinds) < throttleKinds {
		t.kinds[k] = nil
	}
}

// tick ends the window if its time has come.
func (t *throttle) tick(now time.Time) []event.Event {
	if t.begun.IsZero() || now.Sub(t.begun) < throttleWindow {
		return nil
	}
	return t.flush()
}

// flush gives what is held back.
func (t *throttle) flush() []event.Event {
	var out []event.Event
	for k, e := range t.kinds {
		if e == nil {
			continue
		}
		e.Detail = event.Text(fmt.Sprintf("too many at once: %d attempts without what each aimed at", e.Count))
		e.Time = time.Time{} // of writing
		out = append(out, *e)
		t.kinds[k] = nil
	}
	t.begun = time.Time{}
	return out
}
