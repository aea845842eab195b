package proxy

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"syscall"

	"github.com/sallyport/sallyport/internal/event"
	"github.com/sallyport/sallyport/internal/policy"
)

// SOCKS5, RFC 1928: CONNECT to names and addresses.

// Replies of RFC 1928, section 6.
const (
	socksSucceeded       = 0
	socksFailure         = 1
	socksNotAllowed      = 2
	socksHostUnreachable = 4
	socksRefused         = 5
	socksTTLExpired      = 6
	socksNoCommand       = 7
	socksNoAddressType   = 8
)

// socksError is a request that cannot be served, and its reply.
type socksError struct {
	reply  byte
	reason event.Reason
	raw    string // what stood for a host
	text   string
}

func (e *socksError) Error() string { return e.text }

// serveSOCKS5 serves one SOCKS5 connection.
func (s *session) serveSOCKS5() {
	s.readWithin(s.p.cfg.Limits.HelloTimeout)
	br := s.reader()
	want := s.p.socksMethod()
	method, err := readSOCKSGreeting(br, want)
	if err != nil {
		s.conn.Close()
		return
	}
	if method != want {
		s.refuseMethod(want)
		return
	}
	if _, err := s.conn.Write([]byte{5, method}); err != nil {
		s.conn.Close()
		return
	}
	if !s.admitSOCKS(br) {
		return
	}
	req, err := readSOCKSRequest(br)
	var bad *socksError
	switch {
	case errors.As(err, &bad):
		s.deny(target{raw: bad.raw}, builtin("socks-request", bad.reason), bad.text)
		s.lastWords(socksReply(bad.reply))
	case err != nil && isTimeout(err):
		s.deny(target{}, builtin("socks-request", event.RequestInvalid), "SOCKS5: the request took too long")
		s.conn.Close()
	case err != nil:
		s.conn.Close()
	default:
		s.via = viaSOCKS5
		s.pass(req, socks{s})
	}
}

// readSOCKSGreeting gives the method to use: the one that is wanted, or 0xff.
func readSOCKSGreeting(r io.Reader, want byte) (byte, error) {
	var head [2]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, err
	}
	methods := make([]byte, head[1])
	if _, err := io.ReadFull(r, methods); err != nil {
		return 0, err
	}
	for _, m := range methods {
		if m == want {
			return want, nil
		}
	}
	return socksNoMethod, nil
}

// readSOCKSRequest reads a request. Names become canonical here.
func readSOCKSRequest(br *bufio.Reader) (policy.NetRequest, error) {
	var none policy.NetRequest
	var head [4]byte
	if _, err := io.ReadFull(br, head[:]); err != nil {
		return none, err
	}
	if head[0] != 5 || head[2] != 0 {
		return none, &socksError{socksFailure, event.RequestInvalid, "", "SOCKS5: malformed request"}
	}
	host, err := readSOCKSHost(br, head[3])
	if err != nil {
		return none, err
	}
	var port [2]byte
	if _, err := io.ReadFull(br, port[:]); err != nil {
		return none, err
	}
	if head[1] != 1 {
		return none, &socksError{socksNoCommand, event.ProtocolDenied, host,
			fmt.Sprintf("SOCKS5: command %d is not CONNECT", head[1])}
	}
	h, err := policy.ParseHost(host)
	if err != nil {
		return none, &socksError{socksNotAllowed, event.NameInvalid, host, "SOCKS5: " + err.Error()}
	}
	n := binary.BigEndian.Uint16(port[:])
	if n == 0 {
		return none, &socksError{socksNotAllowed, event.RequestInvalid, host, "SOCKS5: port 0"}
	}
	return policy.NetRequest{Host: h, Port: n}, nil
}

// readSOCKSHost reads an address of the given type as text.
func readSOCKSHost(br *bufio.Reader, kind byte) (string, error) {
	size := 0
	switch kind {
	case 1:
		size = 4
	case 4:
		size = 16
	case 3:
		n, err := br.ReadByte()
		if err != nil {
			return "", err
		}
		size = int(n)
	default:
		return "", &socksError{socksNoAddressType, event.RequestInvalid, "", "SOCKS5: unknown address type"}
	}
	b := make([]byte, size)
	if _, err := io.ReadFull(br, b); err != nil {
		return "", err
	}
	if kind == 3 {
		return string(b), nil
	}
	a, _ := netip.AddrFromSlice(b)
	return a.Unmap().String(), nil
}

// socksReply is a reply; the address in it means nothing for CONNECT here.
func socksReply(code byte) []byte { return []byte{5, code, 0, 1, 0, 0, 0, 0, 0, 0} }

// socks is the door of SOCKS5.
type socks struct{ s *session }

func (c socks) opened() error {
	_, err := c.s.conn.Write(socksReply(socksSucceeded))
	return err
}

func (c socks) refused(target, policy.Decision, string) {
	c.s.lastWords(socksReply(socksNotAllowed))
}

func (c socks) failed(_ target, err error) {
	code := byte(socksHostUnreachable)
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		code = socksRefused
	case isTimeout(err):
		code = socksTTLExpired
	}
	c.s.lastWords(socksReply(code))
}
