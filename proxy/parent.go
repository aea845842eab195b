package proxy

import (
	"bufio"
	"context"
	"encoding/base64"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/sallyport/sallyport/internal/policy"
)

// Parent is an HTTP proxy through which everything is dialled, as company
// networks want it. The policy decides first and the parent is handed an
// address that was checked; the sandbox sees nothing of it.
type Parent struct {
	Addr string // "host:port", resolved outside
	User *url.Userinfo
	// ByHostname hands the parent names, for networks that resolve nothing
	// themselves: then the addresses behind a name go unchecked.
	ByHostname bool
	// Direct reports the hosts that are dialled without it; nil means none.
	Direct func(policy.Host) bool
}

func (q *Parent) covers(h policy.Host) bool {
	return q != nil && (q.Direct == nil || !q.Direct(h))
}

func (q *Parent) byName(h policy.Host) bool {
	return q != nil && q.ByHostname && !h.IsAddr() && q.covers(h)
}

// connect asks the parent for a connection to host, an address or a name.
func (q *Parent) connect(ctx context.Context, p *Proxy, host string, port uint16) (stream, error) {
	ctx, cancel := context.WithTimeout(ctx, p.cfg.Limits.DialTimeout)
	defer cancel()
	c, err := p.cfg.Dial(ctx, "tcp", q.Addr)
	if err != nil {
		return nil, fmt.Errorf("reach the parent proxy: %w", err)
	}
	s, ok := c.(stream)
	if !ok {
		c.Close()
		return nil, fmt.Errorf("reach the parent proxy: cannot half-close a %T", c)
	}
	defer context.AfterFunc(ctx, func() { s.SetDeadline(time.Unix(1, 0)) })()
	if err := q.handshake(s, net.JoinHostPort(host, strconv.Itoa(int(port))), p.cfg.Limits.MaxHead); err != nil {
		s.Close()
		return nil, fmt.Errorf("connect through the parent proxy: %w", err)
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
