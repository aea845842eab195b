package proxy

import (
	"bufio"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"io"
	"net/http"
	"strings"

	"github.com/sallyport/sallyport/internal/event"
	"github.com/sallyport/sallyport/internal/policy"
)

// TokenUser is the user name that goes with Config.Token.
const TokenUser = "sallyport"

// A token is for a proxy that others than the sandbox can reach, on the host's
// loopback: HTTP's Basic scheme (RFC 7617) and SOCKS5's user name and password
// (RFC 1929). Without it nothing is looked up, decided or dialled.

const ruleToken = "proxy-token"

func (p *Proxy) tokenIs(user, password string) bool {
	right := subtle.ConstantTimeCompare([]byte(user), []byte(TokenUser)) &
		subtle.ConstantTimeCompare([]byte(password), []byte(p.cfg.Token))
	return right == 1
}

// admitHTTP checks the token of a request to the explicit proxy. Where it is
// not there, the client has been answered.
func (c *httpConn) admitHTTP(r *request) bool {
	p := c.s.p
	if p.cfg.Token == "" || c.fixed {
		return true
	}
	given, n := "", 0
	for _, f := range r.fields {
		if strings.EqualFold(f.name, "Proxy-Authorization") {
			given, n = f.value, n+1
		}
	}
	user, password, ok := parseBasic(given)
	if n == 1 && ok && p.tokenIs(user, password) {
		return true
	}
	c.s.deny(target{}, noToken(), "HTTP: "+tokenDetail(n > 0))
	c.s.lastWords([]byte("HTTP/1.1 407 " + http.StatusText(http.StatusProxyAuthRequired) + "\r\n" +
		"Proxy-Authenticate: Basic realm=\"sallyport\"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"))
	return false
}

func noToken() policy.Decision { return builtin(ruleToken, event.NotAllowed) }

func tokenDetail(given bool) string {
	if given {
		return "the run's token is wrong"
	}
	return "the client did not give the run's token"
}

func parseBasic(s string) (user, password string, ok bool) {
	const scheme = "basic "
	if len(s) < len(scheme) || !strings.EqualFold(s[:len(scheme)], scheme) {
		return "", "", false
	}
	b, err := base64.StdEncoding.DecodeString(strings.TrimSpace(s[len(scheme):]))
	if err != nil {
		return "", "", false
	}
	return strings.Cut(string(b), ":")
}

// SOCKS5 methods.
const (
	socksNoAuth   = 0
	socksPassword = 2
	socksNoMethod = 0xff
)

// socksMethod is the one method that is taken.
func (p *Proxy) socksMethod() byte {
	if p.cfg.Token != "" {
		return socksPassword
	}
	return socksNoAuth
}

// refuseMethod answers a client that does not speak as it should.
func (s *session) refuseMethod(want byte) {
	if want == socksPassword {
		s.deny(target{}, noToken(), "SOCKS5: "+tokenDetail(false))
	} else {
		s.deny(target{}, builtin("socks-request", event.RequestInvalid), "SOCKS5: the client wants authentication")
	}
	s.lastWords([]byte{5, socksNoMethod})
}

// admitSOCKS reads user name and password, if there is a token. Where they are
// wrong, the client has been answered.
func (s *session) admitSOCKS(br *bufio.Reader) bool {
	if s.p.cfg.Token == "" {
		return true
	}
	user, password, err := readSOCKSPassword(br)
	if err != nil {
		s.conn.Close()
		return false
	}
	if s.p.tokenIs(user, password) {
		_, err := s.conn.Write([]byte{1, 0})
		if err != nil {
			s.conn.Close()
		}
		return err == nil
	}
	s.deny(target{}, noToken(), "SOCKS5: "+tokenDetail(true))
	s.lastWords([]byte{1, 1})
	return false
}

func readSOCKSPassword(r *bufio.Reader) (user, password string, err error) {
	version, err := r.ReadByte()
	if err != nil {
		return "", "", err
	}
	if version != 1 {
		return "", "", errors.New("SOCKS5: malformed authentication")
	}
	for _, s := range []*string{&user, &password} {
		n, err := r.ReadByte()
		if err != nil {
			return "", "", err
		}
		b := make([]byte, n)
		if _, err := io.ReadFull(r, b); err != nil {
			return "", "", err
		}
		*s = string(b)
	}
	return user, password, nil
}
