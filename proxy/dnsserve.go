package proxy

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"syscall"
	"time"

	"github.com/sallyport/sallyport/internal/event"
)

// maxDNSPacket is more than any query we would answer needs (RFC 6891, 6.2.5).
const maxDNSPacket = 4096

// serveDNSPackets answers UDP queries, each from the address it was sent to, so
// that any resolver address works. Answering takes no waiting, so one goroutine
// does it all.
func (p *Proxy) serveDNSPackets(c *net.UDPConn) {
	buf := make([]byte, maxDNSPacket)
	oob := make([]byte, 256)
	for p.ctx.Err() == nil {
		n, oobn, _, from, err := c.ReadMsgUDPAddrPort(buf, oob)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			// A queued ICMP error, mostly; the next read is a new one.
			time.Sleep(time.Millisecond)
			continue
		}
		p.answerPacket(c, buf[:n], oob[:oobn], from)
	}
}

func (p *Proxy) answerPacket(c *net.UDPConn, query, oob []byte, from netip.AddrPort) {
	defer func() {
		if r := recover(); r != nil {
			p.panicked(r)
		}
	}()
	to, reply := packetInfo(oob)
	ends := Endpoints{Proto: "udp", Client: unmapPort(from)}
	if to.IsValid() {
		ends.Origin = netip.AddrPortFrom(to, localPort(c))
	}
	answer, err := p.answerDNS(query, ends)
	if err != nil {
		return
	}
	c.WriteMsgUDPAddrPort(answer, reply, from) // a lost answer is asked for again
}

func localPort(c *net.UDPConn) uint16 {
	a, ok := c.LocalAddr().(*net.UDPAddr)
	if !ok {
		return 0
	}
	return a.AddrPort().Port()
}

// serveDNSStream answers the queries of one TCP connection (RFC 7766).
func (p *Proxy) serveDNSStream(c net.Conn) {
	if p.count.openDNS.Add(1) > int64(p.cfg.Limits.MaxDNSConns) {
		p.count.openDNS.Add(-1)
		e := denial(event.LayerDNS, event.NetDNS, builtin("connection-limit", event.LimitExceeded))
		e.Detail = event.Text(fmt.Sprintf("more than %d DNS connections at once", p.cfg.Limits.MaxDNSConns))
		p.emit(e)
		reset(c)
		return
	}
	defer p.count.openDNS.Add(-1)
	ends := Endpoints{Proto: "tcp"}
	if a, ok := c.RemoteAddr().(*net.TCPAddr); ok {
		ends.Client = unmapPort(a.AddrPort())
	}
	if a, err := p.cfg.Origin(c); err == nil {
		ends.Origin = unmapPort(a)
	}
	br := newReader(c)
	defer freeReader(br)
	for {
		c.SetDeadline(time.Now().Add(p.cfg.Limits.HeadTimeout))
		query, err := readDNSMessage(br)
		if err != nil {
			// It did not just end between messages, nor go away: a client that closes
			// before it has read all resets the connection.
			if !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET) {
				p.denyMalformed(ends, "over TCP: "+err.Error())
			}
			return
		}
		answer, err := p.answerDNS(query, ends)
		if err != nil {
			return
		}
		out := binary.BigEndian.AppendUint16(make([]byte, 0, 2+len(answer)), uint16(len(answer)))
		if _, err := c.Write(append(out, answer...)); err != nil {
			return
		}
	}
}

// readDNSMessage reads one length-prefixed message.
func readDNSMessage(r io.Reader) ([]byte, error) {
	var size [2]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint16(size[:])
	if n > maxDNSPacket {
		return nil, errors.New("DNS message too long")
	}
	msg := make([]byte, n)
	_, err := io.ReadFull(r, msg)
	return msg, err
}
