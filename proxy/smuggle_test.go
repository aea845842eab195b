package proxy

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/event"
)

// TestRequestThatTwoParsersReadDifferentlyIsRefused is the part of the attack
// table that HTTP carries, by every way in.
func TestRequestThatTwoParsersReadDifferentlyIsRefused(t *testing.T) {
	cases := []struct {
		name, head string // %s is the target's authority part, or nothing
		reason     event.Reason
	}{
		{"CL and TE", "POST %s/ HTTP/1.1\r\nHost: ok.test\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", event.RequestInvalid},
		{"TE and CL", "POST %s/ HTTP/1.1\r\nHost: ok.test\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n", event.RequestInvalid},
		{"two CL", "POST %s/ HTTP/1.1\r\nHost: ok.test\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello", event.RequestInvalid},
		{"a list of CL", "POST %s/ HTTP/1.1\r\nHost: ok.test\r\nContent-Length: 5, 5\r\n\r\nhello", event.RequestInvalid},
		{"signed CL", "POST %s/ HTTP/1.1\r\nHost: ok.test\r\nContent-Length: +5\r\n\r\nhello", event.RequestInvalid},
		{"hex CL", "POST %s/ HTTP/1.1\r\nHost: ok.test\r\nContent-Length: 0x5\r\n\r\nhello", event.RequestInvalid},
		{"empty CL", "POST %s/ HTTP/1.1\r\nHost: ok.test\r\nContent-Length:\r\n\r\n", event.RequestInvalid},
		{"huge CL", "POST %s/ HTTP/1.1\r\nHost: ok.test\r\nContent-Length: 99999999999999999999\r\n\r\n", event.RequestInvalid},
		{"TE that is not chunked", "POST %s/ HTTP/1.1\r\nHost: ok.test\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", event.RequestInvalid},
		{"TE with a tab inside", "POST %s/ HTTP/1.1\r\nHost: ok.test\r\nTransfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n", event.RequestInvalid},
		{"TE twice", "POST %s/ HTTP/1.1\r\nHost: ok.test\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", event.RequestInvalid},
		{"TE in HTTP/1.0", "POST %s/ HTTP/1.0\r\nHost: ok.test\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", event.RequestInvalid},
		{"space before a colon", "GET %s/ HTTP/1.1\r\nHost: ok.test\r\nContent-Length : 5\r\n\r\nhello", event.RequestInvalid},
		{"folded line", "GET %s/ HTTP/1.1\r\nHost: ok.test\r\nX: a\r\n b\r\n\r\n", event.RequestInvalid},
		{"bare LF", "GET %s/ HTTP/1.1\nHost: ok.test\n\n", event.RequestInvalid},
		{"bare CR", "GET %s/ HTTP/1.1\r\nHost: ok.test\rX: y\r\n\r\n", event.RequestInvalid},
		{"NUL in a value", "GET %s/ HTTP/1.1\r\nHost: ok.test\r\nX: a\x00b\r\n\r\n", event.RequestInvalid},
		{"NUL in the target", "GET %s/\x00 HTTP/1.1\r\nHost: ok.test\r\n\r\n", event.RequestInvalid},
		{"two spaces", "GET  %s/ HTTP/1.1\r\nHost: ok.test\r\n\r\n", event.RequestInvalid},
		{"a word more", "GET %s/ x HTTP/1.1\r\nHost: ok.test\r\n\r\n", event.RequestInvalid},
		{"HTTP/2 by name", "GET %s/ HTTP/2.0\r\nHost: ok.test\r\n\r\n", event.RequestInvalid},
		{"h2c by prior knowledge", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n%.0s", event.RequestInvalid},
		{"HTTP/0.9", "GET %s/\r\n\r\n", event.RequestInvalid},
		{"no Host", "GET %s/ HTTP/1.1\r\nX: y\r\n\r\n", event.RequestInvalid},
		{"two Hosts", "GET %s/ HTTP/1.1\r\nHost: ok.test\r\nHost: ok.test\r\n\r\n", event.RequestInvalid},
		{"another Host", "GET %s/ HTTP/1.1\r\nHost: evil.test\r\n\r\n", event.NameMismatch},
		{"another port in Host", "GET %s/ HTTP/1.1\r\nHost: ok.test:81\r\n\r\n", event.NameMismatch},
		{"WebSocket", "GET %s/ HTTP/1.1\r\nHost: ok.test\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\r\n", event.ProtocolDenied},
		{"head over 64 KiB", "GET %s/ HTTP/1.1\r\nHost: ok.test\r\nX: " + strings.Repeat("x", 70<<10) + "\r\n\r\n", event.RequestInvalid},
		{"too many fields", "GET %s/ HTTP/1.1\r\nHost: ok.test\r\n" + strings.Repeat("X: y\r\n", 300) + "\r\n", event.RequestInvalid},
		{"a head that never ends", "GET %s/ HTTP/1.1\r\nHost: ok.test\r\n", event.RequestInvalid},
	}
	for _, c := range cases {
		for _, way := range []string{"absolute form", "transparent", "CONNECT", "SOCKS5"} {
			t.Run(c.name+"/"+way, func(t *testing.T) {
				t.Parallel()
				r := newRig(t, allowing("ok.test", "evil.test"), func(c *Config) { c.Limits.HeadTimeout = 2 * time.Second })
				reached := make(chan []byte, 1)
				r.outside("ok.test", 80, serveTCP(t, func(c *net.TCPConn) {
					b, _ := io.ReadAll(c)
					reached <- b
				}))
				var conn net.Conn
				authority := ""
				if open := doors[way]; open != nil {
					conn = open(r, "ok.test", 80)
				} else {
					conn, authority = dialTo(t, r.explicit), "http://ok.test"
				}
				resp, body := ask(t, conn, fmt.Sprintf(c.head, authority))
				if resp.StatusCode < 400 || resp.Header.Get("X-Sallyport-Reason") != c.reason.String() || !strings.Contains(body, "rule: builtin:") {
					t.Errorf("answer %d %v %s", resp.StatusCode, resp.Header, body)
				}
				r.wantDenial(c.reason)
				select {
				case b := <-reached:
					if len(b) != 0 {
						t.Errorf("%q went through", b)
					}
				case <-time.After(20 * time.Millisecond): // nothing was dialled
				}
			})
		}
	}
}

func TestProxyRequestForARefusedTarget(t *testing.T) {
	cases := []struct {
		target string
		status int
		reason event.Reason
	}{
		{"http://evil.test/", 403, event.NotAllowed},
		{"http://ok.test:25/", 403, event.PortDenied},
		{"http://ok.test@evil.test/", 400, event.NameInvalid},
		{"http://evil.test\\@ok.test/", 400, event.NameInvalid},
		{"http://ok.test%00.evil.test/", 400, event.NameInvalid},
		{"http://ok.test#@evil.test/", 400, event.RequestInvalid},
		{"http://0x7f.1/", 400, event.NameInvalid},
		{"http://2130706433/", 400, event.NameInvalid},
		{"http://127.0.0.1/", 403, event.AddressDenied},
		{"http://[::1]/", 403, event.AddressDenied},
		{"http://[fe80::1%25lo]/", 400, event.NameInvalid},
		{"http://198.18.0.1:9040/", 403, event.UnknownDest},
		{"http:///path", 400, event.RequestInvalid},
		{"http://ok.test:/", 400, event.NameInvalid},
		{"http://ok.test:080/", 400, event.NameInvalid},
		{"https://ok.test/", 400, event.RequestInvalid},
		{"ftp://ok.test/", 400, event.RequestInvalid},
		{"/", 400, event.RequestInvalid},
		{"*", 400, event.RequestInvalid},
	}
	for _, c := range cases {
		t.Run(c.target, func(t *testing.T) {
			r := newRig(t, allowing("ok.test"))
			resp, _ := ask(t, dialTo(t, r.explicit), "GET "+c.target+" HTTP/1.0\r\n\r\n")
			if resp.StatusCode != c.status || resp.Header.Get("X-Sallyport-Reason") != c.reason.String() {
				t.Errorf("answer %d %v", resp.StatusCode, resp.Header)
			}
			r.wantDenial(c.reason)
			if resolved, dialled := r.wentOutside(); len(resolved)+len(dialled) != 0 {
				t.Errorf("went outside: %v %v", resolved, dialled)
			}
		})
	}
}

func TestLaterRequestsAreDecidedToo(t *testing.T) {
	web := func(t *testing.T) string {
		return webServer(t, false, func(w http.ResponseWriter, q *http.Request) { io.WriteString(w, q.Host) })
	}
	t.Run("captured", func(t *testing.T) {
		r := newRig(t, allowing("ok.test", "other.test"))
		r.outside("ok.test", 80, web(t))
		c := dialTo(t, r.captureName("ok.test", 80))
		if _, body := ask(t, c, "GET / HTTP/1.1\r\nHost: ok.test\r\n\r\n"); body != "ok.test" {
			t.Fatalf("first: %q", body)
		}
		if resp, _ := ask(t, c, "GET / HTTP/1.1\r\nHost: other.test\r\n\r\n"); resp.StatusCode != 403 {
			t.Fatalf("second: %v", resp)
		}
		r.wantDenial(event.NameMismatch)
	})
	t.Run("absolute form", func(t *testing.T) {
		r := newRig(t, allowing("ok.test", "other.test"))
		r.outside("ok.test", 80, web(t))
		r.outside("other.test", 80, web(t))
		c := dialTo(t, r.explicit)
		for _, host := range []string{"ok.test", "other.test", "ok.test"} {
			if _, body := ask(t, c, "GET http://"+host+"/ HTTP/1.1\r\nHost: "+host+"\r\n\r\n"); body != host {
				t.Fatalf("%s: %q", host, body)
			}
		}
		if resp, _ := ask(t, c, "GET http://evil.test/ HTTP/1.1\r\nHost: evil.test\r\n\r\n"); resp.StatusCode != 403 {
			t.Fatalf("evil: %v", resp)
		}
		r.wantDenial(event.NotAllowed)
	})
}

func TestSmuggledSecondRequestNeverLeaves(t *testing.T) {
	r := newRig(t, allowing("ok.test"))
	heads := make(chan string, 4)
	r.outside("ok.test", 80, serveTCP(t, func(c *net.TCPConn) {
		br := bufio.NewReader(c)
		head, _ := readHead(br, 1<<16, nil)
		var body []byte
		for !bytes.HasSuffix(body, []byte("0\r\n\r\n")) {
			b, err := br.ReadByte()
			if err != nil {
				break
			}
			body = append(body, b)
		}
		br.Peek(1) // there must be nothing more
		heads <- head + "|" + string(body)
	}))
	// The body is chunked and holds what looks like a request.
	inner := "GET / HTTP/1.1\r\nHost: evil.test\r\n\r\n"
	c := dialTo(t, r.captureName("ok.test", 80))
	fmt.Fprintf(c, "POST / HTTP/1.1\r\nHost: ok.test\r\nTransfer-Encoding: chunked\r\n\r\n%x;ext=\"a\"\r\n%s\r\n0\r\nTrailer: x\r\n\r\n", len(inner), inner)
	time.Sleep(50 * time.Millisecond)
	want := fmt.Sprintf("POST / HTTP/1.1\r\nHost: ok.test\r\nTransfer-Encoding: chunked\r\n|%x\r\n%s\r\n0\r\n\r\n", len(inner), inner)
	go r.p.Close()
	if got := <-heads; got != want {
		t.Errorf("went out as %q", got)
	}
}

// A client that is still sending when it is refused must get to read why.
func TestRefusedUploadIsTakenToItsEnd(t *testing.T) {
	r := newRig(t, allowing("ok.test"))
	c := dialTo(t, r.explicit)
	io.WriteString(c, "POST http://evil.test/ HTTP/1.1\r\nHost: evil.test\r\nContent-Length: 163840\r\n\r\n")
	for range 20 {
		if _, err := c.Write(make([]byte, 8192)); err != nil {
			t.Fatalf("write: %v", err)
		}
		time.Sleep(5 * time.Millisecond)
	}
	if resp, body := ask(t, c, ""); resp.StatusCode != 403 || !strings.Contains(body, "fix: ") {
		t.Errorf("answer %d %s", resp.StatusCode, body)
	}
}
