package proxy

import "sync/atomic"

// memory bounds what one sandbox can make the proxy hold: heads and hellos that
// arrive slowly, and bytes that the other side does not take. It is shared out
// first come, first served; what is under a reader's buffer a connection is
// bounded by the number of connections and not counted.
type memory struct {
	heads   atomic.Int64 // bytes left for heads and hellos
	buffers atomic.Int64 // full-sized copy buffers left
}

func (m *memory) set(bytes int) {
	m.heads.Store(int64(bytes / 2))
	m.buffers.Store(int64(bytes / 2 / copyBuffer))
}

// errMemory is a head or hello for which there is no memory now.
const errMemory headError = "too many long heads at once"

// hold counts what one head takes while it is being read.
type hold struct {
	m     *memory
	taken int
}

// grow makes the hold at least n bytes; a nil memory has no bound.
func (h *hold) grow(n int) bool {
	n -= readerSize
	if h.m == nil || n <= h.taken {
		return true
	}
	// By halves, so that a head that comes byte by byte costs few steps.
	more := max(n-h.taken, h.taken)
	if h.m.heads.Add(-int64(more)) < 0 {
		h.m.heads.Add(int64(more))
		return false
	}
	h.taken += more
	return true
}

func (h *hold) release() {
	if h.m != nil {
		h.m.heads.Add(int64(h.taken))
	}
	h.taken = 0
}

// buffer gives a copy buffer: a full one, or a small one where the sandbox has
// too many out.
func (m *memory) buffer() *[]byte {
	if m.buffers.Add(-1) >= 0 {
		return copyBuffers.Get().(*[]byte)
	}
	m.buffers.Add(1)
	return m.smallBuffer()
}

func (m *memory) smallBuffer() *[]byte { return smallBuffers.Get().(*[]byte) }

func (m *memory) free(b *[]byte) {
	if len(*b) == copyBuffer {
		m.buffers.Add(1)
		copyBuffers.Put(b)
		return
	}
	smallBuffers.Put(b)
}
