package proxy

import (
	"errors"
	"io"
	"math"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// A mover holds no memory while nothing moves: it waits for its socket to
// become readable, moves what comes in one pooled buffer, and turns to splice(2)
// when that buffer comes back full. A pipe costs two descriptors and counts
// against the user's pipe pages (pipe(7), pipe-user-pages-soft), so it is kept
// only while bulk data flows.
const (
	copyBuffer = 32 << 10
	// spliceFor is how long a mover without data keeps its pipe.
	spliceFor = 500 * time.Millisecond
)

var (
	copyBuffers  = sync.Pool{New: func() any { b := make([]byte, copyBuffer); return &b }}
	smallBuffers = sync.Pool{New: func() any { b := make([]byte, readerSize); return &b }}
)

// mover moves bytes one way.
type mover struct {
	dst, src stream
	read     lazyReader
	mem      *memory
	moved    *atomic.Uint64
	watch    *watch
}

// run moves until src ends, or limit bytes; an early end is an error then.
func (m *mover) run(limit int64) error {
	m.read = newLazyReader(m.src, m.mem)
	for limit > 0 {
		n, err := m.small(min(limit, copyBuffer))
		limit -= n
		for n == copyBuffer && err == nil && limit > 0 {
			var spliced int64
			if spliced, err = m.bulk(limit); spliced == 0 {
				n = 0 // nothing for a while: wait without a pipe
			}
			limit -= spliced
		}
		if err == io.EOF && limit > math.MaxInt64/2 {
			return nil // to the end was asked for
		}
		if err == io.EOF && limit > 0 {
			return io.ErrUnexpectedEOF
		}
		if err != nil && err != io.EOF {
			return err
		}
	}
	return nil
}

// toEnd is the limit that means until src ends.
const toEnd = math.MaxInt64

// small moves what one read gives.
func (m *mover) small(limit int64) (int64, error) {
	buf, got, err := m.read.next(int(limit))
	if buf == nil {
		return 0, err
	}
	defer m.mem.free(buf)
	if got == 0 {
		return 0, err
	}
	m.watch.touch()
	n, werr := m.dst.Write((*buf)[:got])
	m.moved.Add(uint64(n))
	if werr != nil {
		return int64(n), werr
	}
	return int64(n), err
}

// bulk splices until src has had nothing for a while. Nothing is lost when the
// deadline passes: data is taken out of a socket only to be written at once.
func (m *mover) bulk(limit int64) (int64, error) {
	m.src.SetReadDeadline(time.Now().Add(spliceFor))
	var n int64
	var err error
	if limit > math.MaxInt64/2 {
		n, err = io.Copy(m.dst, m.src)
	} else {
		n, err = io.CopyN(m.dst, m.src, limit)
	}
	m.moved.Add(uint64(n))
	if n > 0 {
		m.watch.touch()
	}
	m.src.SetReadDeadline(time.Time{})
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		err = nil
	case err == nil && n < limit:
		err = io.EOF
	}
	return n, err
}

// lazyReader gives at most max bytes of what arrives, in a pooled buffer that
// is taken only when something has arrived and goes back to the memory.
type lazyReader interface {
	next(max int) (buf *[]byte, n int, err error)
}

// plainReader is for connections that are not sockets of ours. It waits with a
// buffer in hand: a small one, unless it has just read much.
type plainReader struct {
	r    io.Reader
	mem  *memory
	last int
}

func (p *plainReader) next(max int) (*[]byte, int, error) {
	buf := p.mem.smallBuffer()
	if p.last >= len(*buf) {
		p.mem.free(buf)
		buf = p.mem.buffer()
	}
	n, err := p.r.Read((*buf)[:min(max, len(*buf))])
	p.last = n
	return buf, n, err
}
