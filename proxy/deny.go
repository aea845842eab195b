package proxy

import (
	"encoding/binary"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/sallyport/sallyport/internal/event"
	"github.com/sallyport/sallyport/internal/policy"
)

// How long a refused client is waited for: to say what it speaks, so that it
// can be told in its own words, and to take the answer.
const (
	sniffWait  = 250 * time.Millisecond
	lingerWait = time.Second
	lingerMost = 256 << 10
)

// explain is what a person reads of a refusal.
func explain(t target, d policy.Decision, detail string) string {
	var b strings.Builder
	where := t.object()
	host := where.Host.Printable()
	if host == "" {
		host = where.Addr
	}
	fmt.Fprintf(&b, "sallyport: refused: %s", host)
	if where.Port != 0 {
		fmt.Fprintf(&b, " port %d", where.Port)
	}
	b.WriteString("\n")
	if host != where.Addr && where.Addr != "" {
		fmt.Fprintf(&b, "address: %s\n", where.Addr)
	}
	line := func(name, text string) {
		if text != "" {
			fmt.Fprintf(&b, "%s: %s\n", name, event.Text(clip(text)).Printable())
		}
	}
	line("reason", d.Reason.String())
	line("detail", detail)
	line("note", d.Text)
	line("rule", d.Rule.String())
	line("fix", d.Fix)
	return b.String()
}

// forbidden is an HTTP response that tells what was refused and why.
func forbidden(status int, reason event.Reason, text string) []byte {
	return fmt.Appendf(nil, "HTTP/1.1 %d %s\r\nContent-Type: text/plain; charset=utf-8\r\n"+
		"X-Sallyport-Reason: %s\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s",
		status, http.StatusText(status), reason, len(text), text)
}

// alertAccessDenied is a fatal TLS alert, access_denied (RFC 8446, section 6).
var alertAccessDenied = []byte{21, 3, 3, 0, 2, 2, 49}

// sshDisconnect is an SSH server that refuses: its identification and an
// unencrypted SSH_MSG_DISCONNECT (RFC 4253, sections 4.2, 6 and 11.1).
func sshDisconnect(text string) []byte {
	const disconnect, notAllowed = 1, 1 // SSH_DISCONNECT_HOST_NOT_ALLOWED_TO_CONNECT
	text = strings.ReplaceAll(strings.TrimSpace(text), "\n", "; ")
	payload := []byte{disconnect, 0, 0, 0, notAllowed}
	payload = binary.BigEndian.AppendUint32(payload, uint32(len(text)))
	payload = append(payload, text...)
	payload = binary.BigEndian.AppendUint32(payload, 0) // no language tag
	pad := 8 - (5+len(payload))%8
	if pad < 4 {
		pad += 8
	}
	out := []byte("SSH-2.0-sallyport\r\n")
	out = binary.BigEndian.AppendUint32(out, uint32(1+len(payload)+pad))
	out = append(out, byte(pad))
	out = append(out, payload...)
	return append(out, make([]byte, pad)...)
}

// refuseRaw tells a client that speaks its own protocol, as if to the
// destination, that it was refused, in that protocol where it has a way.
func (s *session) refuseRaw(t target, d policy.Decision, detail string) {
	k := s.guess(t.req.Port)
	s.refuseAs(k, t, d, detail)
}

// guess finds what a client speaks: by its first bytes, by the port where it
// waits for the server to begin.
func (s *session) guess(port uint16) kind {
	switch port {
	case 22:
		return kindSSH
	case 80, 443:
		s.readWithin(s.p.cfg.Limits.HelloTimeout)
	default:
		s.readWithin(sniffWait)
	}
	br := s.reader()
	if _, err := br.Peek(1); err != nil {
		return kindOther
	}
	first, _ := br.Peek(min(br.Buffered(), 32))
	return sniff(first)
}

// refuseAs ends the connection with an answer in the client's protocol.
func (s *session) refuseAs(k kind, t target, d policy.Decision, detail string) {
	switch k {
	case kindTLS:
		s.lastWords(alertAccessDenied)
	case kindHTTP:
		s.lastWords(forbidden(http.StatusForbidden, d.Reason, explain(t, d, detail)))
	case kindSSH:
		s.lastWords(sshDisconnect(explain(t, d, detail)))
	default:
		reset(s.conn)
	}
}

// lastWords writes an answer and closes so that it arrives: a close with unread
// input would send a reset that overtakes it.
func (s *session) lastWords(b []byte) {
	s.conn.SetDeadline(time.Now().Add(lingerWait))
	if _, err := s.conn.Write(b); err == nil && s.conn.CloseWrite() == nil {
		io.CopyN(io.Discard, s.conn, lingerMost)
	}
	s.conn.Close()
}
