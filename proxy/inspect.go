package proxy

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"

	"github.com/sallyport/sallyport/internal/event"
	"github.com/sallyport/sallyport/internal/policy"
)

// innerError is a refusal of what an allowed connection turned out to carry.
type innerError struct {
	d      policy.Decision
	detail string
	kind   kind // what the client speaks, so that it can be told
}

func (e *innerError) Error() string { return e.detail }

// inner makes the refusal of something inside a connection.
func inner(k kind, name string, r event.Reason, format string, args ...any) *innerError {
	return &innerError{d: builtin(name, r), detail: fmt.Sprintf(format, args...), kind: k}
}

func (p *Proxy) allowsNoSNI(req policy.NetRequest) bool {
	d, ok := p.cfg.Decider.(NoSNIDecider)
	if !ok {
		return false
	}
	_, ok = d.AllowNoSNI(req)
	return ok
}

func (p *Proxy) allowsUpgrade(req policy.NetRequest) bool {
	d, ok := p.cfg.Decider.(UpgradeDecider)
	if !ok {
		return false
	}
	_, ok = d.AllowUpgrade(req)
	return ok
}

// sameHost decides a name found inside a connection. It must be the one that
// was connected to. A plain address has no name: there, any name that could be
// connected to itself will do.
func (p *Proxy) sameHost(req policy.NetRequest, name policy.Host) bool {
	if name == req.Host {
		return true
	}
	return req.Host.IsAddr() && !name.IsAddr() &&
		p.cfg.Decider.DecideNet(policy.NetRequest{Host: name, Port: req.Port}).Allowed()
}

// checkServerName decides the name of a ClientHello.
func (p *Proxy) checkServerName(req policy.NetRequest, name string) *innerError {
	if name == "" {
		// An address has no server name to send (RFC 6066, section 3).
		if req.Host.IsAddr() || p.allowsNoSNI(req) {
			return nil
		}
		return inner(kindTLS, "tls-without-name", event.NameMissing, "TLS without a server name")
	}
	h, err := policy.ParseHost(name)
	if err != nil {
		return inner(kindTLS, "tls-name", event.NameInvalid, "the TLS server name: %v", err)
	}
	if !p.sameHost(req, h) {
		return inner(kindTLS, "tls-name", event.NameMismatch, "TLS asks for %s on a connection to %s", h, req.Host)
	}
	return nil
}

// inspectTLS reads and decides a ClientHello. It gives the bytes read.
func (s *session) inspectTLS(req policy.NetRequest) ([]byte, error) {
	s.readWithin(s.p.cfg.Limits.HelloTimeout)
	h, err := readHello(s.reader(), s.p.cfg.Limits.MaxHello, &s.p.mem)
	switch {
	case err == nil:
		if bad := s.p.checkServerName(req, h.serverName); bad != nil {
			return nil, bad
		}
		return h.raw, nil
	case errors.Is(err, errNotTLS) && sniff(h.raw) != kindTLS:
		return nil, inner(sniff(h.raw), "tls-without-name", event.NameMissing, "port %d carries no TLS", req.Port)
	case errors.Is(err, errMemory):
		return nil, inner(kindTLS, "memory-limit", event.LimitExceeded, "%v", err)
	case !errors.Is(err, errNotTLS) && !errors.Is(err, errHelloTooLong) && !isTimeout(err):
		return nil, err // it went away
	}
	return nil, inner(kindTLS, "tls-hello", event.RequestInvalid, "the TLS ClientHello: %v", err)
}

// checkHost decides the Host of a plain HTTP request to req; an absent one, as
// HTTP/1.0 may have, is right.
func (p *Proxy) checkHost(req policy.NetRequest, host string) *innerError {
	if host == "" {
		return nil
	}
	got, err := parseAuthority(host, req.Port)
	if err != nil {
		return inner(kindHTTP, "http-host", event.NameInvalid, "the Host: %v", err)
	}
	if got.Port != req.Port || !p.sameHost(req, got.Host) {
		return inner(kindHTTP, "http-host", event.NameMismatch,
			"a request for %s port %d on a connection to %s port %d", got.Host, got.Port, req.Host, req.Port)
	}
	return nil
}

// parseAuthority reads "host" or "host:port". The result keeps nothing of s: it
// may live long, and s be part of a long head.
func parseAuthority(s string, port uint16) (policy.NetRequest, error) {
	s = strings.Clone(s)
	if i := strings.LastIndexByte(s, ':'); i >= 0 && !strings.HasSuffix(s, "]") {
		return policy.ParseNetTarget(s)
	}
	h, err := policy.ParseHost(s)
	return policy.NetRequest{Host: h, Port: port}, err
}

// inspectFirst looks at a client's first bytes on a port whose protocol is not
// known: a ClientHello must ask for the right name, a first HTTP request for the
// right host; anything else goes on unseen. It gives the bytes it took.
func (s *session) inspectFirst(req policy.NetRequest) ([]byte, error) {
	if err := s.await(); err != nil {
		return nil, err
	}
	br := s.reader()
	if _, err := br.Peek(1); err == io.EOF {
		return nil, nil // only the server speaks
	} else if err != nil {
		return nil, err
	}
	first, _ := br.Peek(min(br.Buffered(), 32))
	switch sniff(first) {
	case kindTLS:
		return s.inspectTLS(req)
	case kindHTTP:
		return s.inspectHTTP(req, br)
	}
	return nil, nil
}

// inspectHTTP decides the Host of a first request, if it is one.
func (s *session) inspectHTTP(req policy.NetRequest, br *bufio.Reader) ([]byte, error) {
	s.readWithin(s.p.cfg.Limits.HelloTimeout)
	if !peekHTTPLine(br) {
		return nil, nil
	}
	head, err := readHead(br, s.p.cfg.Limits.MaxHead, &s.p.mem)
	if err == errMemory {
		return nil, inner(kindHTTP, "memory-limit", event.LimitExceeded, "%v", err)
	}
	if err != nil {
		return nil, inner(kindHTTP, "http-request", event.RequestInvalid, "the request: %v", err)
	}
	r, err := parseRequest(head)
	if err != nil {
		return nil, inner(kindHTTP, "http-request", event.RequestInvalid, "the request: %v", err)
	}
	host, err := r.host()
	if err != nil {
		return nil, inner(kindHTTP, "http-host", event.RequestInvalid, "the request: %v", err)
	}
	if bad := s.p.checkHost(req, host); bad != nil {
		return nil, bad
	}
	return []byte(head + "\r\n"), nil
}

// peekHTTPLine reports whether the first line ends as an HTTP/1 request line
// does. It waits for the line, but not longer than the read deadline: other
// protocols begin with a word and a space, too.
func peekHTTPLine(br *bufio.Reader) bool {
	for n := br.Buffered(); ; n = max(br.Buffered(), n+1) {
		b, err := br.Peek(min(n, br.Size()))
		if i := bytes.IndexByte(b, '\n'); i >= 0 {
			line := bytes.TrimRight(b[:i], "\r")
			return bytes.HasSuffix(line, []byte(" HTTP/1.1")) || bytes.HasSuffix(line, []byte(" HTTP/1.0"))
		}
		if err != nil {
			return false
		}
		if n >= br.Size() {
			return bytes.IndexByte(b, '/') >= 0 // no word of another protocol is so long
		}
	}
}

// forward writes to upstream what was read of the client and gives the reader
// back: from here on the client is read from its socket.
func (s *session) forward(upstream net.Conn, taken []byte) error {
	if s.br != nil {
		if n := s.br.Buffered(); n > 0 {
			b, _ := s.br.Peek(n)
			taken = append(taken, b...)
			s.br.Discard(n)
		}
		s.release()
	}
	s.readWithin(0)
	if len(taken) == 0 {
		return nil
	}
	n, err := upstream.Write(taken)
	s.p.count.bytesOut.Add(uint64(n))
	return err
}
