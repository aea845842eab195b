package proxy

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/event"
	"github.com/sallyport/sallyport/internal/policy"
)

// parentProxy is an HTTP proxy that connects as the rig's outside does.
func parentProxy(t *testing.T, r *rig, seen chan<- string) string {
	return serveTCP(t, func(c *net.TCPConn) { actAsParent(r, c, seen) })
}

func actAsParent(r *rig, c net.Conn, seen chan<- string) {
	head, err := readHead(bufio.NewReaderSize(oneByte{c}, 16), 1<<12, nil)
	if err != nil {
		return
	}
	seen <- head
	q, err := parseRequest(head)
	if err != nil {
		return
	}
	r.mu.Lock()
	to, ok := r.servers[q.target]
	r.mu.Unlock()
	if !ok {
		io.WriteString(c, "HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n")
		return
	}
	up, err := net.Dial("tcp", to)
	if err != nil {
		return
	}
	// The head and the first bytes of the tunnel in one segment.
	io.WriteString(c, "HTTP/1.1 200 OK\r\nVia: x\r\n\r\n220 hello\r\n")
	go func() {
		io.Copy(up, c)
		up.(*net.TCPConn).CloseWrite()
	}()
	io.Copy(c, up)
}

// corporate is the one parent of every destination.
func corporate(q *Parent) rigOption {
	q.Addr = "proxy.corp:3128"
	return func(c *Config) { c.Parent = func(policy.NetRequest) *Parent { return q } }
}

func TestParentProxyIsHandedACheckedAddress(t *testing.T) {
	seen := make(chan string, 10)
	parent := &Parent{Addr: "proxy.corp:3128", User: url.UserPassword("me", "se:cret")}
	r := newRig(t, allowing("ok.test", "evil.test", "direct.test", "far.test"), func(c *Config) {
		c.Parent = func(q policy.NetRequest) *Parent {
			if q.Host.Name == "direct.test" {
				return nil
			}
			return parent
		}
	})
	r.outside("ok.test", 7000, serveTCP(t, echo))
	r.servers[parent.Addr] = parentProxy(t, r, seen)

	c := dialTo(t, r.captureName("ok.test", 7000))
	br := bufio.NewReader(c)
	if line, err := br.ReadString('\n'); line != "220 hello\r\n" {
		t.Fatalf("%q %v", line, err)
	}
	want := "CONNECT 93.184.216.1:7000 HTTP/1.1\r\nHost: 93.184.216.1:7000\r\nProxy-Authorization: Basic bWU6c2U6Y3JldA==\r\n"
	if got := <-seen; got != want {
		t.Errorf("the parent saw %q", got)
	}

	r.resolves("evil.test", "10.0.0.1")
	if !resets(t, r.captureName("evil.test", 7000)) {
		t.Error("evil.test: not reset")
	}
	r.wantDenial(event.AddressDenied)

	r.outside("direct.test", 7000, serveTCP(t, echo))
	d := dialTo(t, r.captureName("direct.test", 7000))
	io.WriteString(d, "x")
	if _, err := io.ReadFull(d, make([]byte, 1)); err != nil {
		t.Error(err)
	}

	r.resolves("far.test", "93.184.216.77") // the parent refuses
	if !resets(t, r.captureName("far.test", 7000)) {
		t.Error("far.test: not reset")
	}
	if got := <-seen; !strings.HasPrefix(got, "CONNECT 93.184.216.77:7000 ") {
		t.Errorf("the parent saw %q", got)
	}
	if len(seen) != 0 {
		t.Errorf("the parent saw %q, too", <-seen)
	}
}

func TestParentProxyByHostname(t *testing.T) {
	seen := make(chan string, 10)
	r := newRig(t, allowing("ok.test"), corporate(&Parent{ByHostname: true}))
	r.servers["ok.test:7000"] = serveTCP(t, echo) // where the parent goes
	r.servers["proxy.corp:3128"] = parentProxy(t, r, seen)
	c := dialTo(t, r.captureName("ok.test", 7000))
	if line, err := bufio.NewReader(c).ReadString('\n'); line != "220 hello\r\n" {
		t.Fatalf("%q %v", line, err)
	}
	if got := <-seen; got != "CONNECT ok.test:7000 HTTP/1.1\r\nHost: ok.test:7000\r\n" {
		t.Errorf("the parent saw %q", got)
	}
	if resolved, _ := r.wentOutside(); len(resolved) != 0 {
		t.Errorf("resolved %v", resolved)
	}
	if !resets(t, r.captureName("evil.test", 7000)) {
		t.Error("the policy does not come first")
	}
	r.wantDenial(event.NotAllowed)
}

func TestParentProxyIsSpokenToOverTLS(t *testing.T) {
	ca := newAuthority(t, t.TempDir())
	cert := ca.certificate(t, "proxy.corp")
	roots := x509.NewCertPool()
	roots.AddCert(ca.cert)
	for name, trusted := range map[string]bool{"proxy.corp": true, "other.corp": false} {
		t.Run(name, func(t *testing.T) {
			seen := make(chan string, 10)
			r := newRig(t, allowing("ok.test"), corporate(&Parent{TLS: &tls.Config{ServerName: name, RootCAs: roots}}))
			r.outside("ok.test", 7000, serveTCP(t, echo))
			r.servers["proxy.corp:3128"] = serveTCP(t, func(c *net.TCPConn) {
				s := tls.Server(c, &tls.Config{Certificates: []tls.Certificate{cert}})
				defer s.Close()
				actAsParent(r, s, seen)
			})
			if !trusted {
				if !resets(t, r.captureName("ok.test", 7000)) || len(seen) != 0 {
					t.Error("the parent was trusted under another name")
				}
				return
			}
			c := dialTo(t, r.captureName("ok.test", 7000))
			br := bufio.NewReader(c)
			if line, err := br.ReadString('\n'); line != "220 hello\r\n" {
				t.Fatalf("%q %v", line, err)
			}
			big := bytes.Repeat([]byte("0123456789abcdef"), 1<<16) // both ways, and a half-close
			go func() {
				c.Write(big)
				c.CloseWrite()
			}()
			if got, err := io.ReadAll(br); err != nil || !bytes.Equal(got, big) {
				t.Errorf("%d of %d bytes came back, %v", len(got), len(big), err)
			}
		})
	}
}

// silentParent is one that takes a request and never answers.
func silentParent(t *testing.T) string {
	return serveTCP(t, func(c *net.TCPConn) { io.Copy(io.Discard, c) })
}

func TestParentProxyIsNotVisibleInside(t *testing.T) {
	refusing := func(t *testing.T) string {
		return serveTCP(t, func(c *net.TCPConn) {
			readHead(bufio.NewReader(c), 1<<12, nil)
			io.WriteString(c, "HTTP/1.1 407 proxy.corp wants me:secret\r\nVia: proxy.corp\r\nContent-Length: 0\r\n\r\n")
		})
	}
	for name, serve := range map[string]func(*testing.T) string{
		"gone":     func(*testing.T) string { return "127.0.0.1:1" },
		"refusing": refusing,
		"silent":   silentParent,
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, allowing("ok.test", "93.184.216.34"), corporate(&Parent{User: url.UserPassword("me", "secret")}),
				func(c *Config) { c.Limits.DialTimeout = 300 * time.Millisecond })
			r.resolves("ok.test", "93.184.216.34")
			at := serve(t)
			r.servers["proxy.corp:3128"] = at
			_, resp, body := r.connectTo("ok.test:443")
			var all strings.Builder
			fmt.Fprint(&all, resp.Status, resp.Header, body)
			resp, body = ask(t, dialTo(t, r.explicit), "GET http://ok.test/ HTTP/1.1\r\nHost: ok.test\r\nConnection: close\r\n\r\n")
			fmt.Fprint(&all, resp.Status, resp.Header, body)
			if resp.StatusCode < 500 {
				t.Errorf("%s", resp.Status)
			}
			for _, secret := range []string{"corp", "secret", "3128", "407", at, "127.0.0.1", "parent"} {
				if strings.Contains(all.String(), secret) {
					t.Errorf("inside one reads %q in %s", secret, all.String())
				}
			}
			for _, e := range r.allowances() {
				if e.Reason != event.Unreachable || !strings.Contains(string(e.Detail), "the parent proxy: ") || strings.Contains(string(e.Detail), "me:") && name != "refusing" {
					t.Errorf("event %+v", e)
				}
			}
		})
	}
}

func TestFailureOutsideTellsNothingOfThisHost(t *testing.T) {
	r := newRig(t, allowing("ok.test"))
	r.outside("ok.test", 80, serveTCP(t, func(c *net.TCPConn) { // resets in the middle
		c.Read(make([]byte, 10))
		c.SetLinger(0)
	}))
	resp, body := ask(t, dialTo(t, r.explicit), "GET http://ok.test/ HTTP/1.1\r\nHost: ok.test\r\n\r\n")
	if resp.StatusCode != 502 || strings.Contains(body, "127.0.0.1") || !strings.Contains(body, "ok.test") {
		t.Errorf("%s: %s", resp.Status, body)
	}
}
