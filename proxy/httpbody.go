package proxy

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/http/httputil"
	"sync/atomic"
	"time"
)

var (
	longAgo = time.Unix(1, 0)
	never   time.Time
)

// bodyCopy copies a body that begins in a reader's buffer.
type bodyCopy struct {
	head  []byte // goes before the body, in one write with its first bytes
	dst   stream
	src   stream
	br    *bufio.Reader // reads src
	body  body
	toEnd bool // without a length the body goes on until src ends
	plain bool // write chunks without their framing

	mem        *memory
	moved      *atomic.Uint64
	watch      *watch
	maxTrailer int
}

func (b *bodyCopy) run() error {
	switch {
	case b.body.chunked:
		return b.chunks()
	case b.body.length >= 0:
		return b.bytes(b.body.length)
	case b.toEnd:
		return b.bytes(toEnd)
	}
	return b.write(b.head)
}

func (b *bodyCopy) write(p []byte) error {
	b.watch.touch()
	n, err := b.dst.Write(p)
	b.moved.Add(uint64(n))
	return err
}

// bytes copies n bytes as they are: what is buffered with the head, the rest
// from the socket.
func (b *bodyCopy) bytes(n int64) error {
	first := int(min(n, int64(b.br.Buffered())))
	p, _ := b.br.Peek(first)
	if err := b.write(append(b.head, p...)); err != nil {
		return err
	}
	b.br.Discard(first)
	if n != toEnd {
		n -= int64(first)
	}
	m := mover{dst: b.dst, src: b.src, mem: b.mem, moved: b.moved, watch: b.watch}
	return m.run(n)
}

// chunks copies a chunked body chunk by chunk as it arrives, each written anew.
// Extensions and trailers end here.
func (b *bodyCopy) chunks() error {
	buf := b.mem.buffer()
	defer b.mem.free(buf)
	out := make([]byte, 0, len(b.head)+readerSize)
	out = append(out, b.head...)
	r := httputil.NewChunkedReader(b.br)
	for {
		n, err := r.Read(*buf)
		if n > 0 {
			out = b.chunk(out, (*buf)[:n])
		}
		if err == io.EOF {
			break
		}
		// Read gives all that is there before it waits, so waiting data goes on.
		if werr := b.write(out); werr != nil || err != nil {
			return errors.Join(werr, err)
		}
		out = out[:0]
	}
	if err := skipTrailer(b.br, b.maxTrailer, b.mem); err != nil {
		return errors.Join(b.write(out), err)
	}
	if !b.plain {
		out = append(out, "0\r\n\r\n"...)
	}
	return b.write(out)
}

func (b *bodyCopy) chunk(out, data []byte) []byte {
	if b.plain {
		return append(out, data...)
	}
	out = fmt.Appendf(out, "%x\r\n", len(data))
	out = append(out, data...)
	return append(out, "\r\n"...)
}

// skipTrailer reads through the empty line after the last chunk.
func skipTrailer(br *bufio.Reader, max int, mem *memory) error {
	_, err := readHead(br, max, mem)
	return err
}
