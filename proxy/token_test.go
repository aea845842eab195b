package proxy

import (
	"bufio"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/event"
)

const testToken = "0123456789abcdef"

func withToken(c *Config) { c.Token = testToken }

func basic(user, password string) string {
	return "Proxy-Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password)) + "\r\n"
}

// speak sends bytes to the explicit proxy and gives what comes back.
func (r *rig) speak(send string) string {
	r.t.Helper()
	c, err := net.Dial("tcp", r.explicit)
	if err != nil {
		r.t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.WriteString(c, send); err != nil {
		r.t.Fatal(err)
	}
	c.(*net.TCPConn).CloseWrite()
	b, _ := io.ReadAll(c)
	return string(b)
}

func TestWithoutItsTokenTheProxyDoesNothing(t *testing.T) {
	right := basic(TokenUser, testToken)
	for _, tt := range []struct{ name, send, answer string }{
		{"HTTP: none", "CONNECT denied.test:443 HTTP/1.1\r\n\r\n", "HTTP/1.1 407 "},
		{"HTTP: wrong", "CONNECT denied.test:443 HTTP/1.1\r\n" + basic(TokenUser, "x") + "\r\n", "HTTP/1.1 407 "},
		{"HTTP: another user", "CONNECT denied.test:443 HTTP/1.1\r\n" + basic("x", testToken) + "\r\n", "HTTP/1.1 407 "},
		{"HTTP: longer", "CONNECT denied.test:443 HTTP/1.1\r\n" + basic(TokenUser, testToken+"x") + "\r\n", "HTTP/1.1 407 "},
		{"HTTP: twice", "CONNECT denied.test:443 HTTP/1.1\r\n" + right + right + "\r\n", "HTTP/1.1 407 "},
		{"HTTP: another scheme", "CONNECT denied.test:443 HTTP/1.1\r\nProxy-Authorization: Bearer " + testToken + "\r\n\r\n", "HTTP/1.1 407 "},
		{"HTTP: not base64", "CONNECT denied.test:443 HTTP/1.1\r\nProxy-Authorization: Basic !!\r\n\r\n", "HTTP/1.1 407 "},
		{"HTTP: the origin's header", "GET http://denied.test/ HTTP/1.1\r\nHost: denied.test\r\nAuthorization" + strings.TrimPrefix(right, "Proxy-Authorization") + "\r\n", "HTTP/1.1 407 "},
		{"SOCKS5: no authentication", "\x05\x01\x00", "\x05\xff"},
		{"SOCKS5: wrong", "\x05\x02\x00\x02\x01\x09" + TokenUser + "\x01x", "\x05\x02\x01\x01"},
		{"SOCKS5: empty", "\x05\x01\x02\x01\x00\x00", "\x05\x02\x01\x01"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, "network: {allowedDomains: [ok.test]}", withToken)
			if got := r.speak(tt.send); !strings.HasPrefix(got, tt.answer) {
				t.Errorf("answered %q", got)
			}
			r.p.Close()
			if len(r.events) != 1 || r.events[0].Rule != "builtin:proxy-token" || r.events[0].Reason != event.NotAllowed {
				t.Errorf("recorded %+v", r.events)
			}
			if len(r.resolved) != 0 || len(r.dialled) != 0 {
				t.Errorf("looked up %v, dialled %v", r.resolved, r.dialled)
			}
		})
	}
}

func TestWithItsTokenTheProxyDecidesAsEver(t *testing.T) {
	for _, tt := range []struct{ name, send, answer string }{
		{"CONNECT", "CONNECT denied.test:443 HTTP/1.1\r\n" + basic(TokenUser, testToken) + "\r\n", "HTTP/1.1 403 "},
		{"GET", "GET http://denied.test/ HTTP/1.1\r\nHost: denied.test\r\n" + basic(TokenUser, testToken) + "\r\n", "HTTP/1.1 403 "},
		{"SOCKS5", "\x05\x02\x00\x02\x01\x09" + TokenUser + "\x10" + testToken + "\x05\x01\x00\x03\x0bdenied.test\x01\xbb", "\x05\x02\x01\x00\x05\x02"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, "network: {allowedDomains: [ok.test]}", withToken)
			if got := r.speak(tt.send); !strings.HasPrefix(got, tt.answer) {
				t.Errorf("answered %q", got)
			}
			r.p.Close()
			if len(r.events) != 1 || r.events[0].Object.Host != "denied.test" {
				t.Errorf("recorded %+v", r.events)
			}
		})
	}
}

func TestTheTokenDoesNotLeaveTheProxy(t *testing.T) {
	got := make(chan string, 1)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		req, err := http.ReadRequest(bufio.NewReader(c))
		if err != nil {
			return
		}
		got <- fmt.Sprint(req.Header)
		io.WriteString(c, "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
	}()
	r := newRig(t, "network: {allowedDomains: [ok.test]}", withToken)
	r.outside("ok.test", 80, l.Addr().String())
	answer := r.speak("GET http://ok.test/ HTTP/1.1\r\nHost: ok.test\r\nX-Kept: 1\r\n" + basic(TokenUser, testToken) + "\r\n")
	if !strings.HasPrefix(answer, "HTTP/1.1 204") {
		t.Fatalf("answered %q", answer)
	}
	if h := <-got; strings.Contains(h, "Proxy-Authorization") || !strings.Contains(h, "X-Kept") {
		t.Errorf("the origin got %s", h)
	}
}
