package loader

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/ringbuf"

	"github.com/sallyport/sallyport/bpf"
	"github.com/sallyport/sallyport/internal/event"
)

const (
	lookEvery   = 50 * time.Millisecond // at the ring buffer, which does not wake for little
	settleEvery = time.Second           // at repeats and losses
	sentMax     = 32768                 // tallies to remember: twice as many as the kernel does
)

// Handler takes what is read. Its methods are called from one goroutine.
type Handler interface {
	// Denied takes a denial, or Count equal ones. A repeat of an earlier one is
	// the same Record with the new Count.
	Denied(Record)
	// Lost takes the number of denials that no Record stands for.
	Lost(op event.Operation, n uint64)
}

// sent is the record of a tally, and how much of it was told.
type sent struct {
	record Record
	first  uint64
	count  uint64
}

// reader turns the ring buffer and the table of tallies into records.
type reader struct {
	l       *Loader
	ring    *ringbuf.Reader
	sent    map[bpf.KernelTallyKey]*sent
	clock   clock
	settled time.Time
	ripe    uint64 // when settle ran before: what is older has been read
	handler Handler
	adopted bool // there may be more from a predecessor
	// Ends of processes that are known to be lost, and whether they were looked
	// for once.
	goneLost  uint64
	sweptOnce bool
	skipped   uint64 // runs of fexit programs that were left out, and said to be lost

	mu      sync.Mutex
	running bool
	waiting []chan struct{} // for everything to be read, and accounted for
	looking []chan struct{} // for what is in the ring buffer to be read
	gone    []uint64        // sandboxes to forget
}

func newReader(l *Loader, adopted bool) (*reader, error) {
	ring, err := ringbuf.NewReader(l.maps["events"])
	if err != nil {
		return nil, fmt.Errorf("open ring buffer: %w", err)
	}
	r := &reader{l: l, ring: ring, adopted: adopted, sent: map[bpf.KernelTallyKey]*sent{}}
	r.skipped, err = l.skipped(fexitPin)
	return r, err
}

// inherit reads what a predecessor left in the ring buffer. Of tallies whose
// record it had read it may have told anything: what it did not tell cannot be
// told apart any more, and settle counts it as lost.
func (r *reader) inherit() error {
	if !r.adopted {
		return nil
	}
	r.adopted = false
	if err := r.empty(); err != nil {
		return err
	}
	return r.eachTally(func(k bpf.KernelTallyKey, t bpf.KernelTally) {
		if r.sent[k] == nil && t.Told != 0 {
			r.sent[k] = &sent{record: r.l.unknownRecord(k, t), first: t.First, count: t.Count}
		}
	})
}

// Read hands what happens to h until ctx ends or the Loader is closed. One Read
// at a time.
func (l *Loader) Read(ctx context.Context, h Handler) error {
	r := l.reader
	if err := r.enter(h); err != nil {
		return err
	}
	defer r.leave()
	defer context.AfterFunc(ctx, func() { r.ring.Flush() })()
	if err := r.inherit(); err != nil {
		return err
	}
	var rec ringbuf.Record
	for {
		r.ring.SetDeadline(time.Now().Add(lookEvery))
		err := r.ring.ReadInto(&rec)
		switch {
		case err == nil:
			r.take(rec.RawSample)
			if time.Since(r.settled) < settleEvery {
				continue
			}
		case errors.Is(err, ringbuf.ErrClosed):
			return nil
		case !errors.Is(err, os.ErrDeadlineExceeded) && !errors.Is(err, ringbuf.ErrFlushed):
			return fmt.Errorf("read ring buffer: %w", err)
		}
		if err := r.pause(); err != nil {
			return err
		}
		if ctx.Err() != nil { // what is not counted waits, too: ends of processes
			return errors.Join(r.empty(), r.settleTwice())
		}
	}
}

// Reading reports whether Read has begun and not ended.
func (l *Loader) Reading() bool {
	l.reader.mu.Lock()
	defer l.reader.mu.Unlock()
	return l.reader.running
}

func (r *reader) enter(h Handler) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.running {
		return errors.New("read ring buffer: somebody does already")
	}
	r.running, r.handler, r.settled = true, h, time.Now()
	r.clock = readClock()
	return nil
}

func (r *reader) leave() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.running = false
	for _, w := range append(r.waiting, r.looking...) {
		close(w)
	}
	r.waiting, r.looking = nil, nil
}

// pause does what is to be done when there is time, and now and then if not.
func (r *reader) pause() error {
	r.mu.Lock()
	waiting, looking, gone := r.waiting, r.looking, r.gone
	r.waiting, r.looking, r.gone = nil, nil, nil
	r.mu.Unlock()
	var err error
	switch {
	case len(waiting) > 0:
		err = r.settleTwice()
	case len(looking) > 0:
		err = r.empty()
	case time.Since(r.settled) >= settleEvery:
		err = r.settle()
	}
	if len(gone) > 0 {
		err = errors.Join(err, r.forgetTallies(gone))
	}
	for _, w := range append(waiting, looking...) {
		close(w)
	}
	return err
}

// forgetTallies takes those of sandboxes that are no more out of both tables:
// out of one alone they would be taken for new.
func (r *reader) forgetTallies(gone []uint64) error {
	var keys []bpf.KernelTallyKey
	err := r.eachTally(func(k bpf.KernelTallyKey, _ bpf.KernelTally) {
		if slices.Contains(gone, k.Sandbox) {
			keys = append(keys, k)
		}
	})
	for _, k := range keys {
		if e := r.l.maps["tallies"].Delete(k); e != nil && !errors.Is(e, ebpf.ErrKeyNotExist) {
			err = errors.Join(err, fmt.Errorf("forget tally: %w", e))
		}
	}
	for k := range r.sent {
		if slices.Contains(gone, k.Sandbox) {
			delete(r.sent, k)
		}
	}
	return err
}

// settleTwice accounts for everything up to now: the first time finds what is
// still on its way. Where all that was counted has been told, nothing is.
func (r *reader) settleTwice() error {
	if err := r.settle(); err != nil {
		return err
	}
	if _, owed, err := r.l.told.owed(); err != nil || !owed {
		return err
	}
	time.Sleep(2 * time.Millisecond)
	return r.settle()
}

// settle reads what is in the ring buffer, tells repeats, and then losses.
func (r *reader) settle() error {
	seen, owed, err := r.l.told.owed()
	if err != nil {
		return err
	}
	r.ripe = uint64(max(0, r.settled.Sub(r.clock.boot)))
	r.settled, r.clock = time.Now(), readClock()
	if owed {
		if err := r.empty(); err != nil {
			return err
		}
		if err := r.eachTally(r.repeats); err != nil {
			return err
		}
	}
	for op, n := range r.l.told.settle(seen) {
		if n > 0 {
			r.handler.Lost(operation(uint8(op)), n)
		}
	}
	skipped, err := r.l.skipped(fexitPin)
	if err != nil {
		return err
	}
	if skipped > r.skipped { // at most as many were refusals, of what is not known
		r.handler.Lost(event.OpUnknown, skipped-r.skipped)
		r.skipped = skipped
	}
	return r.sweep()
}

// sweep takes out processes whose end found no room in the ring buffer.
func (r *reader) sweep() error {
	n, err := r.l.told.counter(int(bpf.KernelCounterCOUNT_GONE_LOST))
	if err != nil || n == r.goneLost {
		return err
	}
	if err := r.l.procs.forget(func(p *bpf.KernelProc) bool { return p.Ended != 0 && p.Ended < r.ripe }); err != nil {
		return err
	}
	if r.sweptOnce {
		r.goneLost = n // those that were not ripe the first time are now
	}
	r.sweptOnce = !r.sweptOnce
	return nil
}

// empty reads without waiting, as much as a full ring buffer holds at most.
func (r *reader) empty() error {
	var rec ringbuf.Record
	r.ring.SetDeadline(time.Now().Add(-time.Second))
	for left := r.ring.BufferSize(); left > 0; left -= len(rec.RawSample) {
		switch err := r.ring.ReadInto(&rec); {
		case err == nil:
			r.take(rec.RawSample)
		case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, ringbuf.ErrFlushed), errors.Is(err, ringbuf.ErrClosed):
			return nil
		default:
			return fmt.Errorf("read ring buffer: %w", err)
		}
	}
	return nil
}

// take handles one record.
func (r *reader) take(raw []byte) {
	if len(raw) == 0 {
		return
	}
	switch bpf.KernelKind(raw[0]) {
	case bpf.KernelKindKIND_DENIAL:
		d, err := decodeDenial(raw)
		if err != nil {
			return // settle will miss it
		}
		r.tell(d.Key, r.l.record(d, r.clock), d.First, d.Count)
	case bpf.KernelKindKIND_GONE:
		if g, err := decodeGone(raw); err == nil {
			r.l.procs.left(g.Proc)
		}
	}
}

// tell hands on what of a tally was not told yet. A tally that was thrown out of
// the kernel's table and made anew has another beginning.
func (r *reader) tell(k bpf.KernelTallyKey, rec Record, first, count uint64) {
	old := r.sent[k]
	told := uint64(0)
	if old != nil && old.first == first {
		told = old.count
	}
	if count <= told {
		return
	}
	rec.Event.Count = count - told
	if r.l.boxes.early(rec) {
		r.l.told.canary(k.Op, rec.Event.Count)
	} else {
		r.handler.Denied(rec)
	}
	r.l.told.add(k.Op, rec.Event.Count)
	r.sent[k] = &sent{rec, first, count}
	if len(r.sent) > sentMax {
		r.trim()
	}
}

// trim drops what the kernel's table, which is half as large, has dropped. An
// entry that is still there must stay: it would be taken for one that was lost.
func (r *reader) trim() {
	kept := make(map[bpf.KernelTallyKey]*sent, sentMax/2)
	err := r.eachTally(func(k bpf.KernelTallyKey, _ bpf.KernelTally) {
		if s := r.sent[k]; s != nil {
			kept[k] = s
		}
	})
	if err == nil {
		r.sent = kept
	}
}

// repeats tells what was counted since the record was told, or ever, if the
// record found no room.
func (r *reader) repeats(k bpf.KernelTallyKey, t bpf.KernelTally) {
	old := r.sent[k]
	if old != nil && old.first == t.First && old.count >= t.Count {
		return
	}
	var rec Record
	switch {
	case old != nil && old.first == t.First:
		rec = old.record
	case t.First > r.ripe:
		return // its record may be on its way
	default:
		rec = r.l.unknownRecord(k, t)
	}
	rec.Event.First = r.clock.at(t.First)
	rec.Event.Last = r.clock.at(t.Last)
	rec.Event.Time = rec.Event.Last
	r.tell(k, rec, t.First, t.Count)
}

// eachTally reads the table. Entries that come and go meanwhile are read or not.
func (r *reader) eachTally(f func(bpf.KernelTallyKey, bpf.KernelTally)) error {
	var at ebpf.MapBatchCursor
	keys, values := make([]bpf.KernelTallyKey, 1024), make([]bpf.KernelTally, 1024)
	for {
		n, err := r.l.maps["tallies"].BatchLookup(&at, keys, values, nil)
		for i := range n {
			f(keys[i], values[i])
		}
		switch {
		case errors.Is(err, ebpf.ErrKeyNotExist):
			return nil
		case err != nil:
			return fmt.Errorf("read tallies: %w", err)
		}
	}
}

// drain waits until all that has happened was handed on; not if nobody reads.
func (r *reader) drain() { r.await(&r.waiting) }

// look waits until what is in the ring buffer was read.
func (r *reader) look() { r.await(&r.looking) }

func (r *reader) await(list *[]chan struct{}) {
	r.mu.Lock()
	if !r.running {
		r.mu.Unlock()
		return
	}
	done := make(chan struct{})
	*list = append(*list, done)
	r.mu.Unlock()
	r.ring.Flush()
	<-done
}

// Flush waits until all that has happened so far was handed to the Handler, if
// Read runs. It must not be called by the Handler.
func (l *Loader) Flush() { l.reader.drain() }

func (r *reader) forget(sandbox uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.gone = append(r.gone, sandbox)
}

func (r *reader) close() error { return r.ring.Close() }
