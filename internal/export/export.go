// Package export carries the record to somebody else's store: as OpenTelemetry
// logs, by syslog, or into the journal of systemd, each event as OCSF.
//
// The logs themselves are the queue: an Exporter reads them like any other
// reader and keeps the place behind what the other side has taken, so that
// whoever writes a log never waits for it, what was not taken is still there
// after a crash, and memory holds one batch. An event is sent at least once; one
// that comes twice has the same id. What the other side refuses for good, and
// what was removed before it was sent, is counted.
package export

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"time"

	"github.com/sallyport/sallyport/internal/audit"
	"github.com/sallyport/sallyport/internal/event"
)

// Record is an event on its way.
type Record struct {
	event.Event
	ID string // the same each time that this event is sent
}

// Sender is the other side. Send returns nil when all of the list was taken.
type Sender interface {
	Send(ctx context.Context, list []Record) error
}

// ErrRefused marks the refusal of what is in a list: to send it again as it is
// will not help. All other errors pass.
var ErrRefused = errors.New("refused")

// LaterError says when to try again.
type LaterError struct {
	After time.Duration
	Err   error
}

func (e *LaterError) Error() string { return e.Err.Error() }
func (e *LaterError) Unwrap() error { return e.Err }

const (
	batchMost   = 500
	pollEvery   = time.Second
	backoffMin  = time.Second
	backoffMost = time.Minute
	laterMost   = 5 * time.Minute
	sendLimit   = 30 * time.Second
	warnEvery   = time.Hour
)

// Options of an Exporter; all but Warn are needed.
type Options struct {
	Dir    string // of the logs
	State  string // the file that keeps the place
	Sender Sender
	Warn   func(string)
}

// state is what outlives a process.
type state struct {
	Position audit.Position `json:"position"`
	Sent     uint64         `json:"sent"`
	Lost     uint64         `json:"lost"`
}

// Exporter sends what is in the logs of a directory. One State has one Exporter
// at a time, of all processes: Run waits until it is its turn.
type Exporter struct {
	o      Options
	size   int // of the next batch
	warned time.Time

	mu      sync.Mutex
	state   state
	figures event.Export
}

// New makes an Exporter. Nothing is read before Run.
func New(o Options) *Exporter {
	if o.Warn == nil {
		o.Warn = func(string) {}
	}
	return &Exporter{o: o, size: batchMost}
}

// Figures is what became of events so far; of those that another process sent
// only what was known when it was this one's turn.
func (x *Exporter) Figures() event.Export {
	x.mu.Lock()
	defer x.mu.Unlock()
	f := x.figures
	f.Sent, f.Lost = x.state.Sent, x.state.Lost
	return f
}

// Run sends until ctx ends. When last is closed, it ends as soon as nothing is
// left to be sent, or a try fails.
func (x *Exporter) Run(ctx context.Context, last <-chan struct{}) {
	unlock := x.turn(ctx, last)
	if unlock == nil {
		return
	}
	defer unlock()
	if err := x.load(); err != nil {
		x.warn(err)
	}
	backoff := backoffMin
	for ctx.Err() == nil {
		ending := closed(last)
		n, err := x.step(ctx)
		wait := pollEvery
		switch {
		case err != nil && ending:
			return
		case err != nil:
			x.failed(ctx, err)
			wait = backoff
			var later *LaterError
			if errors.As(err, &later) {
				wait = min(max(later.After, backoff), laterMost)
			}
			backoff = min(2*backoff, backoffMost)
		case n > 0:
			backoff = backoffMin
			continue
		case ending:
			return
		}
		sleep(ctx, last, wait)
	}
}

// turn waits until no other process has the state. nil: ctx has ended, or last
// came first: the one that has it will send what there is.
func (x *Exporter) turn(ctx context.Context, last <-chan struct{}) (unlock func()) {
	for ctx.Err() == nil {
		unlock, ok, err := audit.LockState(x.o.State)
		if err != nil {
			x.warn(err)
		}
		if ok {
			return unlock
		}
		if closed(last) {
			return nil
		}
		sleep(ctx, last, pollEvery)
	}
	return nil
}

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

func sleep(ctx context.Context, last <-chan struct{}, d time.Duration) {
	if closed(last) {
		last = nil
		d = min(d, backoffMin)
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-last:
	case <-t.C:
	}
}

func (x *Exporter) load() error {
	b, err := os.ReadFile(x.o.State)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var s state
	if err == nil {
		err = json.Unmarshal(b, &s)
	}
	if err != nil {
		return fmt.Errorf("read export state: %w; everything is sent again", err)
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.state = s
	return nil
}

// step sends one batch. n is how many lines it got past.
func (x *Exporter) step(ctx context.Context) (n int, err error) {
	most := max(x.size, 2) // with the next, to find out who is refused
	b, err := x.state.Position.After(x.o.Dir, most, time.Now())
	if err != nil {
		return 0, err
	}
	list, bad := records(b.Entries)
	if len(b.Gone) > 0 {
		x.o.Warn(fmt.Sprintf("%d logs were removed before all of them was exported, %s for one", len(b.Gone), b.Gone[0]))
	}
	x.mu.Lock()
	x.figures.Behind = b.Behind
	for _, e := range b.Entries {
		x.figures.Behind += int64(len(e.Line)) + 1
	}
	x.mu.Unlock()
	sent, refused := len(list), 0
	if len(list) > 0 {
		if sent, refused, err = x.deliver(ctx, list); err != nil {
			return 0, err
		}
	}
	x.size = min(2*x.size, batchMost)
	return len(b.Entries), x.advance(b, uint64(sent), uint64(bad+refused+len(b.Gone)))
}

// records takes the events out of lines, and counts the lines that are none.
func records(entries []audit.Entry) (list []Record, bad int) {
	for i := range entries {
		e := &entries[i]
		if e.Err != nil {
			bad++
			continue
		}
		list = append(list, Record{e.Event, fmt.Sprintf("%s:%d", e.File, e.Seq)})
	}
	return list, bad
}

// deliver sends a list. A list that is refused is sent in halves; one record that
// is refused by itself is given up only where the next is taken: a side that
// takes nothing at all is broken, and waited for.
func (x *Exporter) deliver(ctx context.Context, list []Record) (sent, refused int, err error) {
	if err = x.send(ctx, list); err == nil {
		return len(list), 0, nil
	}
	if !errors.Is(err, ErrRefused) || len(list) == 1 {
		return 0, 0, err
	}
	if !x.takesAny(ctx, list) {
		return 0, 0, err
	}
	taken, left, refusal := 0, [][]Record{list[:len(list)/2], list[len(list)/2:]}, err
	for len(left) > 0 {
		part := left[0]
		left = left[1:]
		switch err := x.send(ctx, part); {
		case err == nil:
			taken += len(part)
		case !errors.Is(err, ErrRefused):
			return 0, 0, err
		case len(part) == 1:
			refused++
			refusal = err
		default:
			left = append([][]Record{part[:len(part)/2], part[len(part)/2:]}, left...)
		}
	}
	if taken == 0 { // but for what it took to be asked
		return 0, 0, refusal
	}
	x.o.Warn(fmt.Sprintf("%d events were refused for good: %v", refused, refusal))
	return taken, refused, nil
}

// takesAny tries some records of a list by themselves.
func (x *Exporter) takesAny(ctx context.Context, list []Record) bool {
	const probes = 8
	for i := range min(probes, len(list)) {
		at := len(list) - 1 - i*len(list)/probes
		if x.send(ctx, list[max(at, 0):max(at, 0)+1]) == nil {
			return true
		}
	}
	return false
}

func (x *Exporter) send(ctx context.Context, list []Record) error {
	ctx, cancel := context.WithTimeout(ctx, sendLimit)
	defer cancel()
	return x.o.Sender.Send(ctx, list)
}

// advance keeps the place behind a batch. If it cannot be kept, the batch is sent
// again.
func (x *Exporter) advance(b audit.Batch, sent, lost uint64) error {
	next := x.state
	next.Position, next.Sent, next.Lost = b.Next, next.Sent+sent, next.Lost+lost
	if len(b.Entries)+len(b.Gone) > 0 {
		if err := audit.SaveState(x.o.State, next); err != nil {
			return err
		}
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.state, x.figures.Behind = next, b.Behind
	return nil
}

func (x *Exporter) failed(ctx context.Context, err error) {
	if ctx.Err() != nil {
		return
	}
	x.mu.Lock()
	x.figures.Failures++
	x.mu.Unlock()
	x.warn(err)
}

// warn says an error, but not again and again.
func (x *Exporter) warn(err error) {
	if now := time.Now(); x.warned.IsZero() || now.Sub(x.warned) >= warnEvery {
		x.warned = now
		x.o.Warn("export: " + err.Error() + "; it is tried again, nothing is lost meanwhile")
	}
}
