package export

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/sallyport/sallyport/internal/event"
)

// syslogSender speaks RFC 5424 over TCP, each message with its length before it
// (RFC 6587, 3.4.1).
//
// The protocol has no answer. So a connection carries one list: when all is
// written our half is closed, and only when the other side, having read up to
// that, closes its half, the list counts as taken. A reset, or no end, says that
// it was not.
type syslogSender struct {
	addr string
	pid  string
}

// NewSyslog gives a Sender to tcp://HOST:PORT.
func NewSyslog(target string) (Sender, error) {
	u, err := url.Parse(target)
	if err == nil && (u.Scheme != "tcp" || u.Hostname() == "" || u.Port() == "" || u.Path != "" || u.User != nil) {
		err = errors.New("it is not tcp://HOST:PORT")
	}
	if err != nil {
		return nil, fmt.Errorf("export to %q: %w", target, err)
	}
	return &syslogSender{u.Host, strconv.Itoa(os.Getpid())}, nil
}

func (s *syslogSender) Send(ctx context.Context, list []Record) error {
	var b strings.Builder
	for i := range list {
		m, err := s.message(&list[i])
		if err != nil {
			return fmt.Errorf("%w: %w", ErrRefused, err)
		}
		fmt.Fprintf(&b, "%d %s", len(m), m)
	}
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", s.addr)
	if err != nil {
		return fmt.Errorf("send to syslog: %w", err)
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { c.SetDeadline(time.Unix(1, 0)) })()
	if _, err = io.WriteString(c, b.String()); err == nil {
		if err = c.(*net.TCPConn).CloseWrite(); err == nil {
			_, err = io.Copy(io.Discard, io.LimitReader(c, 1<<20))
		}
	}
	if err != nil {
		return fmt.Errorf("send to syslog: %w", err)
	}
	return nil
}

const (
	// maxMessage is what receivers take as they are installed: rsyslog 8 KiB.
	maxMessage = 8 << 10
	facility   = 13 // log audit (RFC 5424, table 1)
	// enterprise 32473 is for examples (RFC 5612); sallyport has none of its own.
	sdID = "sallyport@32473"
)

// message is RFC 5424's SYSLOG-MSG.
func (s *syslogSender) message(r *Record) (string, error) {
	severity := 6 // informational
	switch {
	case r.Reason == event.Tampered:
		severity = 3
	case r.Verdict.Denied() && r.Reason != event.System, r.LostSinceLast > 0:
		severity = 4
	}
	head := fmt.Sprintf("<%d>1 %s %s sallyport %s %s [%s id=\"%s\" verdict=\"%s\" layer=\"%s\" operation=\"%s\" reason=\"%s\" sandbox=\"%s\" count=\"%d\" lost=\"%d\"] ",
		facility*8+severity, r.Last.UTC().Format("2006-01-02T15:04:05.000000Z"), word(string(r.Host), 255), s.pid, r.Operation,
		sdID, param(r.ID), r.Verdict, r.Layer, r.Operation, r.Reason, param(r.Sandbox.ID), r.Count, r.LostSinceLast)
	body, err := OCSF(r, maxMessage-len(head))
	return head + string(body), err
}

// word is text for the header: printable ASCII, or "-".
func word(s string, most int) string {
	out := strings.Map(func(r rune) rune {
		if r <= ' ' || r > '~' {
			return '_'
		}
		return r
	}, s)
	if out == "" {
		return "-"
	}
	return out[:min(len(out), most)]
}

// param is a PARAM-VALUE.
func param(s string) string {
	return strings.NewReplacer(`\`, `\\`, `"`, `\"`, `]`, `\]`).Replace(word(s, 255))
}
