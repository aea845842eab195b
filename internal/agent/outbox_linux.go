package agent

import (
	"os"
	"sync"
)

// How much may wait for a caller to read it.
const (
	outboxAnswers = 256       // then the caller's next request waits, too
	outboxBytes   = 256 << 10 // then what nobody has asked for is left out
)

// outgoing is a message on its way.
type outgoing struct {
	packets [][]byte
	files   []*os.File
	size    int
}

func (o outgoing) close() {
	for _, f := range o.files {
		f.Close()
	}
}

// outbox is what waits to be sent on a connection, in order.
type outbox struct {
	mu      sync.Mutex
	changed *sync.Cond
	list    []outgoing
	bytes   int
	missed  uint64 // that found it full
	closed  bool
}

func newOutbox() *outbox {
	b := &outbox{}
	b.changed = sync.NewCond(&b.mu)
	return b
}

// answer puts something in, when there is room. It reports whether it will be
// sent.
func (b *outbox) answer(o outgoing) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	for len(b.list) >= outboxAnswers && !b.closed {
		b.changed.Wait()
	}
	if b.closed {
		o.close()
		return false
	}
	b.put(o)
	return true
}

// offer puts something in, if there is room. It never waits.
func (b *outbox) offer(o outgoing) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed || b.bytes+o.size > outboxBytes {
		b.missed++
		return
	}
	b.put(o)
}

func (b *outbox) put(o outgoing) {
	b.list = append(b.list, o)
	b.bytes += o.size
	b.changed.Broadcast()
}

// take waits for the next; false: it is closed, and empty.
func (b *outbox) take() (outgoing, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for len(b.list) == 0 && !b.closed {
		b.changed.Wait()
	}
	if len(b.list) == 0 {
		return outgoing{}, false
	}
	o := b.list[0]
	b.list[0] = outgoing{}
	if b.list = b.list[1:]; len(b.list) == 0 {
		b.list = nil
	}
	b.bytes -= o.size
	b.changed.Broadcast()
	return o, true
}

// close: what is in it can still be taken.
func (b *outbox) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	b.changed.Broadcast()
}

// drop takes out what nobody will send.
func (b *outbox) drop() {
	b.close()
	for o, ok := b.take(); ok; o, ok = b.take() {
		o.close()
	}
}

func (b *outbox) missedSoFar() uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.missed
}
