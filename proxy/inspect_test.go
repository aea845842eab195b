package proxy

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/event"
	"github.com/sallyport/sallyport/internal/policy"
)

// doors are the ways in, each as a function that gives a connection on which
// the client can speak to name and port.
var doors = map[string]func(*rig, string, uint16) net.Conn{
	"transparent": func(r *rig, name string, port uint16) net.Conn {
		return dialTo(r.t, r.captureName(name, port))
	},
	"CONNECT": func(r *rig, name string, port uint16) net.Conn {
		c, resp, body := r.connectTo(fmt.Sprintf("%s:%d", name, port))
		if resp.StatusCode != 200 {
			r.t.Fatalf("CONNECT %s:%d: %d %s", name, port, resp.StatusCode, body)
		}
		return c
	},
	"SOCKS5": func(r *rig, name string, port uint16) net.Conn {
		c, code := r.socksTo(name, port)
		if code != 0 {
			r.t.Fatalf("SOCKS5 %s:%d: reply %d", name, port, code)
		}
		return c
	},
	"SOCKS5 with the fake address": func(r *rig, name string, port uint16) net.Conn {
		c, code := r.socksTo(r.fake(name).String(), port)
		if code != 0 {
			r.t.Fatalf("SOCKS5 %s:%d: reply %d", name, port, code)
		}
		return c
	},
}

func TestServerNameMustBeTheOneConnectedTo(t *testing.T) {
	for door, open := range doors {
		for _, port := range []uint16{443, 8443, 80} {
			t.Run(fmt.Sprintf("%s/%d", door, port), func(t *testing.T) {
				r := newRig(t, allowing("ok.test", "other.test"))
				r.outside("ok.test", port, webServer(t, true, func(w http.ResponseWriter, _ *http.Request) {}))
				good := tlsOver(open(r, "ok.test", port), "OK.test")
				if err := good.Handshake(); err != nil {
					t.Fatalf("right name: %v", err)
				}
				// Even a name that is allowed by itself.
				bad := tlsOver(open(r, "ok.test", port), "other.test")
				if err := bad.Handshake(); err == nil || !strings.Contains(err.Error(), "access denied") {
					t.Fatalf("wrong name: %v", err)
				}
				e := r.wantDenial(event.NameMismatch)
				if e.Object.Host != "ok.test" || e.Object.Port != port || e.Rule != "builtin:tls-name" ||
					!strings.Contains(string(e.Detail), "other.test") {
					t.Errorf("event %+v", e)
				}
			})
		}
	}
}

func TestDeniedInnerNameIsNotRecordedAsAllowed(t *testing.T) {
	for _, port := range []uint16{443, 8443} {
		r := newRig(t, allowing("ok.test"))
		r.outside("ok.test", port, serveTCP(t, echo))
		tlsOver(dialTo(t, r.captureName("ok.test", port)), "evil.test").Handshake()
		r.wantDenial(event.NameMismatch)
		if got := r.allowances(); len(got) != 0 {
			t.Errorf("port %d: %s", port, show(got))
		}
	}
}

func TestPort443WantsAServerName(t *testing.T) {
	for door, open := range doors {
		t.Run(door+"/no name", func(t *testing.T) {
			r := newRig(t, allowing("ok.test"))
			r.outside("ok.test", 443, webServer(t, true, nil))
			c := open(r, "ok.test", 443)
			c.Write(clientHello(t, "", nil))
			got, _ := io.ReadAll(c)
			if !bytes.Equal(got, alertAccessDenied) {
				t.Errorf("answer %x", got)
			}
			r.wantDenial(event.NameMissing)
		})
		t.Run(door+"/no TLS", func(t *testing.T) {
			r := newRig(t, allowing("ok.test"))
			reached := make(chan []byte, 1)
			r.outside("ok.test", 443, serveTCP(t, func(c *net.TCPConn) {
				b, _ := io.ReadAll(c)
				reached <- b
			}))
			c := open(r, "ok.test", 443)
			io.WriteString(c, "GET / HTTP/1.1\r\nHost: evil.test\r\n\r\n")
			resp, err := http.ReadResponse(bufio.NewReader(c), nil)
			if err != nil || resp.StatusCode != 403 {
				t.Errorf("answer %v, %v", resp, err)
			}
			r.wantDenial(event.NameMissing)
			if b := <-reached; len(b) != 0 {
				t.Errorf("%q went through", b)
			}
		})
		t.Run(door+"/a rule allows it", func(t *testing.T) {
			r := newRig(t, allowing("ok.test"), func(c *Config) {
				c.Decider = exceptions{Decider: c.Decider}
			})
			r.outside("ok.test", 443, serveTCP(t, echo))
			c := open(r, "ok.test", 443)
			io.WriteString(c, "SSH-2.0-x")
			got := make([]byte, 9)
			if _, err := io.ReadFull(c, got); err != nil || string(got) != "SSH-2.0-x" {
				t.Errorf("%q, %v", got, err)
			}
		})
	}
}

func TestClientHelloIsReadHoweverItIsCut(t *testing.T) {
	big := &tls.Config{NextProtos: nil}
	for range 250 { // about 12 KiB: ticket-sized and then some
		big.NextProtos = append(big.NextProtos, strings.Repeat("p", 50))
	}
	plain := clientHello(t, "evil.test", nil)
	cut := func(hello []byte, size int) []byte { // into records of size
		var out []byte
		for body := hello[5:]; len(body) > 0; {
			n := min(size, len(body))
			out = append(out, 22, 3, 1, byte(n>>8), byte(n))
			out = append(out, body[:n]...)
			body = body[n:]
		}
		return out
	}
	cases := map[string][]byte{
		"whole":                     plain,
		"one byte a record":         cut(plain, 1),
		"records of 100 bytes":      cut(plain, 100),
		"more than 4 KiB":           clientHello(t, "evil.test", big),
		"more than 4 KiB, records":  cut(clientHello(t, "evil.test", big), 1000),
		"TLS 1.2 with much to add":  clientHello(t, "evil.test", &tls.Config{MaxVersion: tls.VersionTLS12}),
		"TLS 1.0 as a lowest offer": clientHello(t, "evil.test", &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS10}),
	}
	for name, hello := range cases {
		for door, open := range doors {
			for _, port := range []uint16{443, 8443} {
				t.Run(fmt.Sprintf("%s/%s/%d", name, door, port), func(t *testing.T) {
					r := newRig(t, allowing("ok.test"))
					r.outside("ok.test", port, serveTCP(t, echo))
					c := open(r, "ok.test", port)
					for b := hello; len(b) > 0; { // and in segments
						n := min(997, len(b))
						c.Write(b[:n])
						b = b[n:]
					}
					if got, _ := io.ReadAll(c); !bytes.Equal(got, alertAccessDenied) {
						t.Errorf("answer %.60q", got)
					}
					r.wantDenial(event.NameMismatch)
				})
			}
		}
	}
}

func TestBadClientHelloIsRefused(t *testing.T) {
	hello := clientHello(t, "ok.test", nil)
	cases := map[string]struct {
		send   []byte
		reason event.Reason
	}{
		"NUL in the name":   {clientHello(t, "evil\x00.ok.test", nil), event.NameInvalid},
		"a trailing dot":    {bytes.Replace(hello, []byte("ok.test"), []byte("ok.tes."), 1), event.RequestInvalid},
		"garbage in TLS":    {append([]byte{22, 3, 1, 0, 5}, "\x01\x00\x00\x01x"...), event.RequestInvalid},
		"over 64 KiB":       {endlessHello(70 << 10), event.RequestInvalid},
		"never complete":    {hello[:50], event.RequestInvalid},
		"a name and a port": {clientHello(t, "ok.test:443", nil), event.NameInvalid},
	}
	for name, c := range cases {
		for door, open := range doors {
			t.Run(name+"/"+door, func(t *testing.T) {
				r := newRig(t, allowing("ok.test"), func(c *Config) { c.Limits.HelloTimeout = 200 * time.Millisecond })
				reached := make(chan []byte, 1)
				r.outside("ok.test", 443, serveTCP(t, func(c *net.TCPConn) {
					b, _ := io.ReadAll(c)
					reached <- b
				}))
				conn := open(r, "ok.test", 443)
				conn.Write(c.send)
				io.ReadAll(conn)
				r.wantDenial(c.reason)
				if b := <-reached; len(b) != 0 {
					t.Errorf("%d bytes went through", len(b))
				}
			})
		}
	}
}

// endlessHello is a handshake message that says it is n bytes long.
func endlessHello(n int) []byte {
	msg := append([]byte{1, byte(n >> 16), byte(n >> 8), byte(n)}, make([]byte, n)...)
	var out []byte
	for len(msg) > 0 {
		k := min(16384, len(msg))
		out = append(out, 22, 3, 1, byte(k>>8), byte(k))
		out = append(out, msg[:k]...)
		msg = msg[k:]
	}
	return out
}

func TestAddressNeedsNoServerNameButNoForeignOne(t *testing.T) {
	const origin = "93.184.216.34:443"
	text := allowing("93.184.216.34", "ok.test")
	for name, want := range map[string]bool{"": true, "ok.test": true, "evil.test": false} {
		r := newRig(t, text)
		r.servers[origin] = webServer(t, true, func(http.ResponseWriter, *http.Request) {})
		err := tlsOver(dialTo(t, r.capture(origin)), name).Handshake()
		if (err == nil) != want {
			t.Errorf("server name %q: %v", name, err)
		}
	}
}

func TestFirstRequestOnAnyPortIsForTheRightHost(t *testing.T) {
	for door, open := range doors {
		t.Run(door, func(t *testing.T) {
			r := newRig(t, allowing("ok.test"))
			r.outside("ok.test", 8080, webServer(t, false, func(w http.ResponseWriter, q *http.Request) {
				io.WriteString(w, q.Host)
			}))
			resp, body := ask(t, open(r, "ok.test", 8080), "GET /a HTTP/1.1\r\nHost: ok.test:8080\r\nConnection: close\r\n\r\n")
			if resp.StatusCode != 200 || body != "ok.test:8080" {
				t.Errorf("right host: %d %q", resp.StatusCode, body)
			}
			resp, body = ask(t, open(r, "ok.test", 8080), "GET /a HTTP/1.1\r\nHost: evil.test:8080\r\n\r\n")
			if resp.StatusCode != 403 || !strings.Contains(body, "name-mismatch") {
				t.Errorf("wrong host: %d %q", resp.StatusCode, body)
			}
			r.wantDenial(event.NameMismatch)
		})
	}
}

// exceptions grants every exception.
type exceptions struct{ Decider }

func (exceptions) AllowNoSNI(policy.NetRequest) (policy.Rule, bool) {
	return policy.Rule{Name: "t"}, true
}
func (exceptions) AllowUpgrade(policy.NetRequest) (policy.Rule, bool) {
	return policy.Rule{Name: "t"}, true
}

func TestSniff(t *testing.T) {
	for in, want := range map[string]kind{
		"\x16\x03\x01\x02\x00": kindTLS, "\x16": kindTLS, "\x16\x02": kindOther,
		"GET / HTTP/1.1": kindHTTP, "PO": kindHTTP, "PRI * HTTP/2.0": kindHTTP, "SSH-2.0-x": kindSSH,
		"": kindOther, " GET": kindOther, "get /": kindOther, "\x00\x00\x00\x08\x04\xd2\x16\x2f": kindOther,
	} {
		if got := sniff([]byte(in)); got != want {
			t.Errorf("sniff(%q) = %d, want %d", in, got, want)
		}
	}
}

func FuzzClientHello(f *testing.F) {
	f.Add(clientHello(f, "ok.test", nil))
	f.Add(clientHello(f, "", &tls.Config{MaxVersion: tls.VersionTLS12}))
	f.Add([]byte{22, 3, 1, 0, 5, 1, 0, 0, 1, 0})
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n"))
	f.Add(endlessHello(300))
	f.Fuzz(func(t *testing.T, b []byte) {
		const most = 1 << 10
		br := bufio.NewReader(bytes.NewReader(b))
		h, err := readHello(br, most, nil)
		if len(h.raw) > most {
			t.Fatalf("read %d bytes, more than %d", len(h.raw), most)
		}
		rest, _ := io.ReadAll(br)
		if got := append(append([]byte(nil), h.raw...), rest...); !bytes.Equal(got, b) {
			t.Fatal("bytes were lost or changed")
		}
		if err != nil && h.serverName != "" {
			t.Fatalf("a name %q beside the error %v", h.serverName, err)
		}
		if err == nil && len(b) < 5 {
			t.Fatal("a ClientHello out of nothing")
		}
		if errors.Is(err, errHaveHello) {
			t.Fatal("internal error leaked")
		}
	})
}
