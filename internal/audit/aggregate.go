package audit

import (
	"container/list"
	"errors"
	"sync"
	"time"

	"github.com/sallyport/sallyport/internal/event"
)

const (
	aggregateWindow = 5 * time.Second
	aggregateKeys   = 4096
)

// Appender takes events; a Writer is one.
type Appender interface {
	Append(event.Event) error
}

// AggregatorOptions may be left empty.
type AggregatorOptions struct {
	Window time.Duration // 5 s
	Keys   int           // 4096: how many different attempts are remembered at once
}

// Aggregator stands before an Appender and joins repeats: the first attempt of
// a kind is written at once, what repeats it within the window is added up and
// written as one more event when the window ends. No attempt is dropped: the
// counts of the events written, or refused by the Appender with an error, add
// up to the attempts.
//
// It is safe for concurrent use and keeps no goroutine; Close it to write what
// it holds.
type Aggregator struct {
	opts AggregatorOptions
	to   Appender

	mu     sync.Mutex
	kinds  map[kind]*list.Element // of *repeats
	oldest *list.List             // windows have one length: the oldest ends first
	timer  *time.Timer            // runs while there are windows
	failed error                  // of a write that no caller waited for
	closed bool
}

// kind is what makes two attempts the same.
type kind struct {
	sandbox   string
	layer     event.Layer
	operation event.Operation
	object    event.Object
	verdict   event.Verdict
	reason    event.Reason
	errno     string
	rule      string
	decision  event.Text
	execID    string
}

func kindOf(e *event.Event) kind {
	k := kind{sandbox: e.Sandbox.ID, layer: e.Layer, operation: e.Operation, object: e.Object,
		verdict: e.Verdict, reason: e.Reason, errno: e.Errno, rule: e.Rule, decision: e.Decision}
	if e.Process != nil {
		k.execID = e.Process.ExecID
	}
	if e.Verdict == event.Allow && e.Object.Host != "" {
		k.object.Addr = "" // one connection is as good as another to the same host
	}
	return k
}

// repeats is a window: what repeated the event that opened it.
type repeats struct {
	kind  kind
	end   time.Time
	event event.Event // the first repeat; count 0: there was none
}

func (r *repeats) add(e event.Event) {
	if r.event.Count == 0 {
		r.event = e
		return
	}
	r.event.Count += e.Count
	if e.First.Before(r.event.First) {
		r.event.First = e.First
	}
	if e.Last.After(r.event.Last) {
		r.event.Last = e.Last
	}
}

// NewAggregator gives one that writes to an Appender.
func NewAggregator(to Appender, o AggregatorOptions) *Aggregator {
	if o.Window <= 0 {
		o.Window = aggregateWindow
	}
	if o.Keys <= 0 {
		o.Keys = aggregateKeys
	}
	return &Aggregator{opts: o, to: to, kinds: map[kind]*list.Element{}, oldest: list.New()}
}

// Append takes one event. Its error may be that of an earlier window's event.
func (a *Aggregator) Append(e event.Event) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := time.Now()
	complete(&e, now)
	if a.closed { // late, but not lost
		return a.to.Append(e)
	}
	a.flush(func(r *repeats) bool { return !now.Before(r.end) })
	k := kindOf(&e)
	if el, ok := a.kinds[k]; ok {
		el.Value.(*repeats).add(e)
		return a.takeError()
	}
	a.flush(func(*repeats) bool { return len(a.kinds) >= a.opts.Keys })
	a.kinds[k] = a.oldest.PushBack(&repeats{kind: k, end: now.Add(a.opts.Window)})
	a.arm(now)
	return errors.Join(a.to.Append(e), a.takeError())
}

// Flush writes all repeats now and ends all windows.
func (a *Aggregator) Flush() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.flush(func(*repeats) bool { return true })
	a.arm(time.Now())
	return a.takeError()
}

// Close flushes and stops; an event that comes later is passed on as it is.
func (a *Aggregator) Close() error {
	err := a.Flush()
	a.mu.Lock()
	defer a.mu.Unlock()
	a.closed = true
	return err
}

// flush ends the oldest windows for as long as it is told to.
func (a *Aggregator) flush(while func(*repeats) bool) {
	for el := a.oldest.Front(); el != nil; el = a.oldest.Front() {
		r := el.Value.(*repeats)
		if !while(r) {
			return
		}
		a.oldest.Remove(el)
		delete(a.kinds, r.kind)
		if r.event.Count == 0 {
			continue
		}
		r.event.Time = time.Time{} // the time of writing: a log goes forward
		if err := a.to.Append(r.event); err != nil && a.failed == nil {
			a.failed = err
		}
	}
}

// arm sets the timer to the end of the oldest window.
func (a *Aggregator) arm(now time.Time) {
	front := a.oldest.Front()
	switch {
	case front == nil && a.timer != nil:
		a.timer.Stop()
		a.timer = nil
	case front != nil && a.timer == nil:
		a.timer = time.AfterFunc(front.Value.(*repeats).end.Sub(now), a.expire)
	}
}

func (a *Aggregator) expire() {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := time.Now()
	a.flush(func(r *repeats) bool { return !now.Before(r.end) })
	if a.timer != nil { // armed anew by a Flush that this call waited for
		a.timer.Stop()
		a.timer = nil
	}
	a.arm(now)
}

func (a *Aggregator) takeError() error {
	err := a.failed
	a.failed = nil
	return err
}
