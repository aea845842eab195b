package proxy

import (
	"bufio"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/sallyport/sallyport/internal/event"
	"github.com/sallyport/sallyport/internal/policy"
)

// stream is a connection whose two directions can end one after the other.
type stream interface {
	net.Conn
	CloseWrite() error
}

// session is one accepted connection. It belongs to one goroutine.
type session struct {
	p    *Proxy
	conn stream
	ends Endpoints
	via  string // how the client asked
	// br holds what was read ahead; nil while nothing had to be looked at. All
	// reads of conn go through it until it is handed to a relay.
	br *bufio.Reader

	asked     bool
	process   *event.Process
	ancestors []event.Process
}

// target is where a connection wants to go, as far as it is known: a host in
// canonical form, or, where it could not be had, the raw bytes and address.
type target struct {
	req  policy.NetRequest
	raw  string     // what stood for a host and is none
	addr netip.Addr // what was connected to, or the address that was refused
}

// object describes the target for an event.
func (t target) object() event.Object {
	o := event.Object{Host: event.Text(t.req.Host.Name), Port: t.req.Port, Proto: "tcp"}
	if t.raw != "" {
		o.Host = event.Text(clip(t.raw))
	}
	switch {
	case t.req.Host.IsAddr():
		o.Addr = t.req.Host.Addr.String()
	case t.addr.IsValid():
		o.Addr = t.addr.String()
	}
	return o
}

// clip bounds hostile bytes that go into an event.
func clip(s string) string {
	const most = 256
	if len(s) > most {
		return s[:most] + "…"
	}
	return s
}

const readerSize = 4096

var readers = sync.Pool{New: func() any { return bufio.NewReaderSize(nil, readerSize) }}

func newReader(c net.Conn) *bufio.Reader {
	br := readers.Get().(*bufio.Reader)
	br.Reset(c)
	return br
}

func freeReader(br *bufio.Reader) {
	br.Reset(nil)
	readers.Put(br)
}

// reader gives the buffered reader of the client's bytes.
func (s *session) reader() *bufio.Reader {
	if s.br == nil {
		s.br = newReader(s.conn)
	}
	return s.br
}

// await waits for bytes of the client, holding no buffer meanwhile.
func (s *session) await() error {
	if s.br != nil {
		if s.br.Buffered() > 0 {
			return nil
		}
		s.release()
	}
	return waitReadable(s.conn)
}

// release gives the reader back; the session must not read after it.
func (s *session) release() {
	if s.br != nil {
		freeReader(s.br)
		s.br = nil
	}
}

// who finds the process at the other end, once.
func (s *session) who() (*event.Process, []event.Process) {
	if !s.asked {
		s.asked = true
		s.process, s.ancestors = s.p.cfg.ProcessOf(s.ends)
	}
	return s.process, s.ancestors
}

// readWithin bounds every read of the client until the next call; zero lifts
// the bound.
func (s *session) readWithin(d time.Duration) {
	setReadWithin(s.conn, d)
}

func setReadWithin(c net.Conn, d time.Duration) {
	var t time.Time
	if d > 0 {
		t = time.Now().Add(d)
	}
	c.SetReadDeadline(t)
}

// limitTotal ends the connection when Limits.Total has passed; the result stops
// that.
func (s *session) limitTotal() func() bool {
	if s.p.cfg.Limits.Total <= 0 {
		return func() bool { return true }
	}
	return time.AfterFunc(s.p.cfg.Limits.Total, func() { reset(s.conn) }).Stop
}
