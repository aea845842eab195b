package proxy

import (
	"bufio"
	"bytes"
	"io"
	"math"
	"net"
	"net/http/httputil"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// sink is a stream that keeps what is written.
type sink struct {
	net.Conn
	got bytes.Buffer
}

func (s *sink) Write(b []byte) (int, error) { return s.got.Write(b) }
func (s *sink) CloseWrite() error           { return nil }

// source is a stream that gives what it holds.
type source struct {
	net.Conn
	r io.Reader
}

func (s *source) Read(b []byte) (int, error)        { return s.r.Read(b) }
func (s *source) CloseWrite() error                 { return nil }
func (s *source) SetReadDeadline(t time.Time) error { return nil }

// copyBody copies a body and gives what went out and what was left.
func copyBody(in string, size int, b body, plain bool) (out, rest string, err error) {
	src := &source{r: strings.NewReader(in)}
	br := bufio.NewReaderSize(src, size)
	br.Peek(1)
	dst := &sink{}
	var mem memory
	mem.set(defaultMemory)
	w := newWatch(time.Hour, func() {})
	defer w.stop()
	c := bodyCopy{
		head: []byte("head "), dst: dst, src: src, br: br, body: b, plain: plain,
		mem: &mem, moved: new(atomic.Uint64), watch: w, maxTrailer: 1 << 12,
	}
	err = c.run()
	left, _ := io.ReadAll(br)
	return dst.got.String(), string(left), err
}

func TestBodyEndsWhereItEnds(t *testing.T) {
	for _, c := range []struct {
		name, in string
		b        body
		out      string
		rest     string
		err      error
	}{
		{"none", "GET", body{length: -1}, "head ", "GET", nil},
		{"empty", "GET", body{length: 0}, "head ", "GET", nil},
		{"buffered", "hello GET", body{length: 6}, "head hello ", "GET", nil},
		{"beyond the buffer", strings.Repeat("x", 100) + "GET", body{length: 100}, "head " + strings.Repeat("x", 100), "GET", nil},
		{"cut", "hel", body{length: 6}, "head hel", "", io.ErrUnexpectedEOF},
		{"chunked", "3;x=y\r\nabc\r\n0\r\nT: r\r\n\r\nGET", body{chunked: true, length: -1}, "head 3\r\nabc\r\n0\r\n\r\n", "GET", nil},
		{"chunked and empty", "0\r\n\r\nGET", body{chunked: true, length: -1}, "head 0\r\n\r\n", "GET", nil},
	} {
		for _, size := range []int{16, 4096} {
			out, rest, err := copyBody(c.in, size, c.b, false)
			if out != c.out || rest != c.rest || err != c.err {
				t.Errorf("%s, buffer %d: %q, %q, %v", c.name, size, out, rest, err)
			}
		}
	}
	for _, bad := range []string{"", "3\r\nab", "3\r\nabcd\r\n0\r\n\r\n", "-1\r\n", "ffffffffffffffffff\r\n", "3\nabc\n0\n\n", "0\r\nX\n\r\n"} {
		if out, _, err := copyBody(bad, 4096, body{chunked: true, length: -1}, false); err == nil {
			t.Errorf("chunks %q went out as %q", bad, out)
		}
	}
	if out, _, err := copyBody("3\r\nabc\r\n0\r\n\r\n", 4096, body{chunked: true, length: -1}, true); out != "head abc" || err != nil {
		t.Errorf("without framing: %q, %v", out, err)
	}
}

func TestMoverTakesNoByteTooMany(t *testing.T) {
	const size = 3*copyBuffer + 17 // through the splice and back
	upstream := serveTCP(t, func(c *net.TCPConn) {
		io.Copy(c, io.LimitReader(&counting{}, size+5))
	})
	taken := serveTCP(t, func(c *net.TCPConn) { io.Copy(io.Discard, c) })
	src, dst := dialTo(t, upstream), dialTo(t, taken)
	src.SetDeadline(time.Time{})
	var mem memory
	mem.set(defaultMemory)
	w := newWatch(time.Hour, func() {})
	defer w.stop()
	var moved atomic.Uint64
	m := mover{dst: dst, src: src, mem: &mem, moved: &moved, watch: w}
	if err := m.run(size); err != nil || moved.Load() != size {
		t.Errorf("moved %d, %v", moved.Load(), err)
	}
	if err := m.run(6); err != io.ErrUnexpectedEOF || moved.Load() != size+5 {
		t.Errorf("moved %d, %v", moved.Load(), err)
	}
	if toEnd != math.MaxInt64 {
		t.Error("the end is not beyond every length")
	}
}

// FuzzChunks: what goes out says the same as what came in, and nothing of the
// next request is taken.
func FuzzChunks(f *testing.F) {
	f.Add([]byte("3\r\nabc\r\n0\r\n\r\nGET / HTTP/1.1\r\n\r\n"))
	f.Add([]byte("3;ext=\"a\"\r\nabc\r\n10\r\n0123456789abcdef\r\n0\r\nTrailer: x\r\n\r\n"))
	f.Add([]byte("0\r\n\r\n"))
	f.Add([]byte("3\nabc\n0\n\n"))
	f.Add([]byte("00000000000000003\r\nabc\r\n0\r\n\r\n"))
	f.Fuzz(func(t *testing.T, in []byte) {
		want, wantErr := io.ReadAll(httputil.NewChunkedReader(bufio.NewReader(bytes.NewReader(in))))
		out, rest, err := copyBody(string(in), 64, body{chunked: true, length: -1}, false)
		if err != nil {
			return
		}
		if wantErr != nil {
			t.Fatalf("%q went out as %q, though: %v", in, out, wantErr)
		}
		br := bufio.NewReader(strings.NewReader(strings.TrimPrefix(out, "head ")))
		got, err := io.ReadAll(httputil.NewChunkedReader(br))
		if err != nil || !bytes.Equal(got, want) {
			t.Fatalf("%q went out as %q: %v", in, out, err)
		}
		if end, _ := io.ReadAll(br); string(end) != "\r\n" {
			t.Fatalf("%q went out as %q, which ends in %q", in, out, end)
		}
		if !bytes.HasSuffix(in, []byte(rest)) {
			t.Fatalf("%q leaves %q", in, rest)
		}
	})
}
