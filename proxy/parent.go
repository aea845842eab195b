package proxy

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"strconv"
	"strings"
	"syscall"

	"github.com/sallyport/sallyport/internal/policy"
)

// Parent is an HTTP proxy through which a destination is dialled, as company
// networks want it. The policy decides first and the parent is handed an
// address that was checked; the sandbox sees nothing of it.
type Parent struct {
	Addr string // "host:port", resolved outside
	User *url.Userinfo
	TLS  *tls.Config // nil: the parent is spoken to in the clear
	// ByHostname hands the parent names, for networks that resolve nothing
	// themselves: then the addresses behind a name go unchecked.
	ByHostname bool
}

func (p *Proxy) parent(req policy.NetRequest) *Parent {
	if p.cfg.Parent == nil {
		return nil
	}
	return p.cfg.Parent(req)
}

// parentError is a failure on the way to the parent, or by it.
type parentError struct{ err error }

func (e *parentError) Error() string { return "the parent proxy: " + e.err.Error() }
func (e *parentError) Unwrap() error { return e.err }

// connect asks the parent for a connection to host, an address or a name.
func (q *Parent) connect(ctx context.Context, p *Proxy, host string, port uint16) (stream, error) {
	ctx, cancel := context.WithTimeout(ctx, p.cfg.Limits.DialTimeout)
	defer cancel()
	c, err := p.cfg.Dial(ctx, "tcp", q.Addr)
	if err != nil {
		return nil, &parentError{err}
	}
	s, err := q.open(ctx, c, net.JoinHostPort(host, strconv.Itoa(int(port))), p.cfg.Limits.MaxHead)
	if err != nil {
		c.Close()
		return nil, &parentError{err}
	}
	return s, nil
}

// open makes a tunnel of a connection to the parent.
func (q *Parent) open(ctx context.Context, c net.Conn, authority string, maxHead int) (stream, error) {
	stop := context.AfterFunc(ctx, func() { c.SetDeadline(longAgo) })
	defer stop()
	s, ok := c.(stream)
	if !ok {
		return nil, fmt.Errorf("cannot half-close a %T", c)
	}
	if q.TLS != nil {
		t := tls.Client(c, q.TLS)
		if err := t.HandshakeContext(ctx); err != nil {
			return nil, err
		}
		s = t
	}
	if err := q.handshake(s, authority, maxHead); err != nil {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return nil, err
	}
	if !stop() {
		return nil, ctx.Err() // the deadline is set, or being set
	}
	return s, nil
}

func (q *Parent) handshake(c net.Conn, authority string, maxHead int) error {
	var b strings.Builder
	fmt.Fprintf(&b, "CONNECT %s HTTP/1.1\r\nHost: %s\r\n", authority, authority)
	if q.User != nil {
		password, _ := q.User.Password()
		fmt.Fprintf(&b, "Proxy-Authorization: Basic %s\r\n",
			base64.StdEncoding.EncodeToString([]byte(q.User.Username()+":"+password)))
	}
	b.WriteString("\r\n")
	if _, err := c.Write([]byte(b.String())); err != nil {
		return err
	}
	// One byte at a time: what follows the head belongs to the tunnel, and a
	// reader that had it could not be spliced from.
	raw, err := readHead(bufio.NewReaderSize(oneByte{c}, 16), maxHead, nil)
	if err != nil {
		return err
	}
	h, err := parseResponse(raw)
	if err != nil {
		return err
	}
	if h.status != 200 {
		return fmt.Errorf("it answered %d %s", h.status, clip(h.reason))
	}
	return nil
}

// oneByte reads single bytes.
type oneByte struct{ c net.Conn }

func (o oneByte) Read(b []byte) (int, error) { return o.c.Read(b[:1]) }

// outward is what the sandbox is told of a failure outside: Go's errors name
// this host's addresses, its resolver's and the parent's.
func outward(err error) string {
	var parent *parentError
	var dns *net.DNSError
	var errno syscall.Errno
	switch {
	case errors.As(err, &parent):
		return "the network's way out failed"
	case isTimeout(err), errors.Is(err, os.ErrDeadlineExceeded):
		return "it took too long"
	case errors.As(err, &dns) && dns.IsNotFound:
		return "no such host"
	case errors.As(err, &dns):
		return "the name could not be resolved"
	case errors.As(err, &errno):
		return errno.Error()
	case errors.Is(err, io.ErrUnexpectedEOF):
		return "the server ended the connection"
	case errors.Is(err, errUpstream):
		return errUpstream.Error()
	}
	return "it failed"
}
