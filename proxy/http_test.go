package proxy

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/event"
)

// throughProxy is a client that uses the explicit proxy.
func throughProxy(t testing.TB, r *rig) *http.Client {
	tr := &http.Transport{Proxy: http.ProxyURL(&url.URL{Scheme: "http", Host: r.explicit})}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: 20 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// throughCapture is a client whose connections are captured on their way to
// name, port 80.
func throughCapture(t testing.TB, r *rig, name string) *http.Client {
	to := r.captureName(name, 80)
	tr := &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) { return net.Dial("tcp", to) }}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: 20 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// bigBody is more than any buffer.
var bigBody = bytes.Repeat([]byte("0123456789abcdef"), 1<<17) // 2 MiB

// originServer does what servers do, and counts its connections.
func originServer(t *testing.T) (addr string, conns *atomic.Int64) {
	mux := http.NewServeMux()
	mux.HandleFunc("/echo", func(w http.ResponseWriter, q *http.Request) {
		b, _ := io.ReadAll(q.Body)
		w.Header().Set("X-Seen", fmt.Sprintf("%s %s %d %v", q.Method, q.Host, q.ContentLength, q.TransferEncoding))
		w.Write(b)
	})
	mux.HandleFunc("/stream", func(w http.ResponseWriter, q *http.Request) {
		for i := range 3 {
			fmt.Fprintf(w, "part %d\n", i)
			w.(http.Flusher).Flush()
		}
	})
	mux.HandleFunc("/moved", func(w http.ResponseWriter, q *http.Request) {
		http.Redirect(w, q, "http://evil.test/", http.StatusFound)
	})
	mux.HandleFunc("/empty", func(w http.ResponseWriter, q *http.Request) { w.WriteHeader(http.StatusNoContent) })
	mux.HandleFunc("/big", func(w http.ResponseWriter, q *http.Request) {
		w.Header().Set("Content-Length", fmt.Sprint(len(bigBody)))
		w.Write(bigBody)
	})
	mux.HandleFunc("/early", func(w http.ResponseWriter, q *http.Request) { http.Error(w, "no", http.StatusTeapot) })
	conns = new(atomic.Int64)
	s := &http.Server{Handler: mux, ErrorLog: quiet, ConnState: func(_ net.Conn, st http.ConnState) {
		if st == http.StateNew {
			conns.Add(1)
		}
	}}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go s.Serve(l)
	t.Cleanup(func() { s.Close() })
	return l.Addr().String(), conns
}

func TestHTTPGoesThroughUnchanged(t *testing.T) {
	for way, client := range map[string]func(testing.TB, *rig) *http.Client{
		"absolute form": throughProxy,
		"captured":      func(t testing.TB, r *rig) *http.Client { return throughCapture(t, r, "ok.test") },
	} {
		t.Run(way, func(t *testing.T) {
			r := newRig(t, allowing("ok.test"))
			addr, conns := originServer(t)
			r.outside("ok.test", 80, addr)
			c := client(t, r)
			for range 2 {
				tryRequests(t, c)
			}
			if n := conns.Load(); n != 1 {
				t.Errorf("%d connections to the server for one client connection", n)
			}
			if resp, _ := fetch(t, c, "POST", "/early", bytes.NewReader(bytes.Repeat(bigBody, 8))); resp.StatusCode != http.StatusTeapot {
				t.Errorf("early answer: %v", resp)
			}
			if d := r.denials(); len(d) != 0 {
				t.Errorf("denials %s", show(d))
			}
			if n := r.p.Counters().Requests; n != 15 {
				t.Errorf("%d requests counted", n)
			}
		})
	}
}

// fetch makes a request to ok.test.
func fetch(t *testing.T, c *http.Client, method, path string, body io.Reader) (*http.Response, string) {
	t.Helper()
	q, _ := http.NewRequest(method, "http://ok.test"+path, body)
	if path == "/echo" {
		q.Header.Set("Expect", "100-continue")
	}
	resp, err := c.Do(q)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	return resp, string(b)
}

// tryRequests makes seven requests of every kind of body.
func tryRequests(t *testing.T, c *http.Client) {
	t.Helper()
	if resp, b := fetch(t, c, "POST", "/echo", strings.NewReader("hello")); b != "hello" ||
		resp.Header.Get("X-Seen") != "POST ok.test 5 []" {
		t.Errorf("POST: %q %v", b, resp.Header)
	}
	if resp, b := fetch(t, c, "POST", "/echo", io.MultiReader(bytes.NewReader(bigBody))); b != string(bigBody) ||
		resp.Header.Get("X-Seen") != "POST ok.test -1 [chunked]" {
		t.Errorf("chunked POST: %d bytes %v", len(b), resp.Header)
	}
	if resp, b := fetch(t, c, "GET", "/stream", nil); b != "part 0\npart 1\npart 2\n" || resp.ContentLength != -1 {
		t.Errorf("stream: %q", b)
	}
	if resp, _ := fetch(t, c, "GET", "/moved", nil); resp.StatusCode != 302 || resp.Header.Get("Location") != "http://evil.test/" {
		t.Errorf("redirect was followed: %v", resp)
	}
	if resp, _ := fetch(t, c, "GET", "/empty", nil); resp.StatusCode != 204 {
		t.Errorf("204: %v", resp)
	}
	if resp, b := fetch(t, c, "HEAD", "/big", nil); b != "" || resp.ContentLength != int64(len(bigBody)) {
		t.Errorf("HEAD: %v", resp)
	}
	if _, b := fetch(t, c, "GET", "/big", nil); b != string(bigBody) {
		t.Errorf("big: %d bytes", len(b))
	}
}

func TestRequestIsWrittenAnew(t *testing.T) {
	r := newRig(t, allowing("ok.test", "other.test"))
	heads := make(chan string, 10)
	serve := func(c *net.TCPConn) {
		br := bufio.NewReader(c)
		for {
			head, err := readHead(br, 1<<16, nil)
			if err != nil {
				return
			}
			heads <- head
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: X-Hop, keep-alive\r\nX-Hop: 1\r\nKeep-Alive: 5\r\nX-End: 2\r\n\r\nok")
		}
	}
	r.outside("ok.test", 80, serveTCP(t, serve))
	r.outside("ok.test", 8080, serveTCP(t, serve))
	c := dialTo(t, r.explicit)
	br := bufio.NewReader(c)
	for _, step := range []struct{ send, want string }{
		{"GET http://OK.test/a?b=c HTTP/1.1\r\nHost: ok.test\r\nProxy-Connection: keep-alive\r\nConnection: x-one, keep-alive\r\nX-One: 1\r\nX-Two: 2\r\nProxy-Authorization: Basic eA==\r\nTE: trailers\r\n\r\n",
			"GET /a?b=c HTTP/1.1\r\nHost: ok.test\r\nX-Two: 2\r\n"},
		{"\r\nGET http://ok.test:8080 HTTP/1.1\r\nHost: OK.TEST:8080\r\n\r\n", "GET / HTTP/1.1\r\nHost: ok.test:8080\r\n"},
		{"GET http://ok.test?q HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", "GET /?q HTTP/1.1\r\nHost: ok.test\r\n"},
		{"GET http://ok.test/end HTTP/1.0\r\n\r\n", "GET /end HTTP/1.1\r\nHost: ok.test\r\nConnection: close\r\n"},
	} {
		io.WriteString(c, step.send)
		resp, err := http.ReadResponse(br, nil)
		if err != nil {
			t.Fatalf("%q: %v", step.send, err)
		}
		io.ReadAll(resp.Body)
		if got := <-heads; got != step.want {
			t.Errorf("%q went out as %q", step.send, got)
		}
		if resp.Header.Get("X-Hop") != "" || resp.Header.Get("Keep-Alive") != "" || resp.Header.Get("X-End") != "2" {
			t.Errorf("response headers %v", resp.Header)
		}
	}
	if b, err := io.ReadAll(br); err != nil || len(b) != 0 {
		t.Errorf("after the last request: %q, %v", b, err)
	}
}

func TestUpgradeToHTTP2IsDroppedAndRecorded(t *testing.T) {
	r := newRig(t, allowing("ok.test"))
	r.outside("ok.test", 80, webServer(t, false, func(w http.ResponseWriter, q *http.Request) {
		fmt.Fprintf(w, "%s %v", q.Proto, q.Header)
	}))
	c := dialTo(t, r.captureName("ok.test", 80))
	for range 2 {
		resp, body := ask(t, c, "GET / HTTP/1.1\r\nHost: ok.test\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n")
		if resp.StatusCode != 200 || body != "HTTP/1.1 map[]" {
			t.Errorf("answer %d %q", resp.StatusCode, body)
		}
	}
	r.wantDenial(event.ProtocolDenied)
}

func TestUpgradeByARuleBecomesATunnel(t *testing.T) {
	for way, head := range map[string]string{"absolute form": "http://ok.test", "captured": ""} {
		t.Run(way, func(t *testing.T) {
			r := newRig(t, "network: {allowedDomains: [ok.test], rules: [{host: ok.test, port: 80, upgrade: allow}]}")
			r.outside("ok.test", 80, serveTCP(t, func(c *net.TCPConn) {
				br := bufio.NewReader(c)
				q, err := http.ReadRequest(br)
				if err != nil || q.Header.Get("Upgrade") != "websocket" || !strings.EqualFold(q.Header.Get("Connection"), "upgrade") {
					return
				}
				io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nX-A: b\r\n\r\nearly")
				io.Copy(c, br)
			}))
			to := r.explicit
			if way == "captured" {
				to = r.captureName("ok.test", 80)
			}
			c := dialTo(t, to)
			io.WriteString(c, "GET "+head+"/ws HTTP/1.1\r\nHost: ok.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nframe")
			br := bufio.NewReader(c)
			resp, err := http.ReadResponse(br, nil)
			if err != nil || resp.StatusCode != 101 || resp.Header.Get("Upgrade") != "websocket" || resp.Header.Get("X-A") != "b" {
				t.Fatalf("answer %v, %v", resp, err)
			}
			got := make([]byte, len("earlyframe"))
			if _, err := io.ReadFull(br, got); err != nil || string(got) != "earlyframe" {
				t.Errorf("tunnel gave %q, %v", got, err)
			}
		})
	}
}

func TestRefusedUpgradeNamesTheRuleThatWouldAllowIt(t *testing.T) {
	r := newRig(t, "network: {allowedDomains: [ok.test], rules: [{host: ok.test, port: 8080, upgrade: allow}, {host: no.test, upgrade: allow}]}")
	r.outside("ok.test", 80, serveTCP(t, func(c *net.TCPConn) { io.Copy(io.Discard, c) }))
	resp, body := ask(t, dialTo(t, r.captureName("ok.test", 80)),
		"GET /ws HTTP/1.1\r\nHost: ok.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
	if resp.StatusCode != 403 || !strings.Contains(body, "network.rules: [{host: ok.test, port: 80, upgrade: allow}]") {
		t.Errorf("%s: %s", resp.Status, body)
	}
	r.wantDenial(event.ProtocolDenied)
}

func TestBadServerAnswersAreA502(t *testing.T) {
	for name, answer := range map[string]string{
		"nothing":      "",
		"garbage":      "SSH-2.0-OpenSSH\r\n\r\n",
		"CL and TE":    "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"101 unasked":  "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n",
		"endless head": "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 70<<10),
		"only 1xx":     strings.Repeat("HTTP/1.1 103 Early Hints\r\n\r\n", 20),
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, allowing("ok.test"))
			r.outside("ok.test", 80, serveTCP(t, func(c *net.TCPConn) {
				readHead(bufio.NewReader(c), 1<<16, nil)
				io.WriteString(c, answer)
			}))
			c := dialTo(t, r.explicit)
			resp, _ := ask(t, c, "GET http://ok.test/ HTTP/1.0\r\n\r\n")
			if resp.StatusCode != 502 {
				t.Errorf("answer %v", resp)
			}
		})
	}
}

func TestCutResponseDoesNotLookWhole(t *testing.T) {
	for name, answer := range map[string]string{
		"length":      "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf",
		"chunked":     "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
		"until reset": "HTTP/1.1 200 OK\r\n\r\nhalf",
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, allowing("ok.test"))
			read := make(chan bool, 1)
			r.outside("ok.test", 80, serveTCP(t, func(c *net.TCPConn) {
				readHead(bufio.NewReader(c), 1<<16, nil)
				io.WriteString(c, answer)
				<-read
				c.SetLinger(0)
			}))
			c := dialTo(t, r.explicit)
			io.WriteString(c, "GET http://ok.test/ HTTP/1.1\r\nHost: ok.test\r\n\r\n")
			resp, err := http.ReadResponse(bufio.NewReader(c), nil)
			read <- true
			if err != nil {
				t.Fatal(err)
			}
			if b, err := io.ReadAll(resp.Body); err == nil {
				t.Errorf("%q looked whole", b)
			}
		})
	}
}

func TestServerThatClosedMeanwhileIsDialledAgain(t *testing.T) {
	for way, authority := range map[string]string{"absolute form": "http://ok.test", "captured": ""} {
		t.Run(way, func(t *testing.T) { testDialledAgain(t, authority) })
	}
}

func testDialledAgain(t *testing.T, authority string) {
	r := newRig(t, allowing("ok.test"))
	r.outside("ok.test", 80, serveTCP(t, func(c *net.TCPConn) {
		readHead(bufio.NewReader(c), 1<<16, nil)
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok") // and goes, unannounced
	}))
	to := r.explicit
	if authority == "" {
		to = r.captureName("ok.test", 80)
	}
	c := dialTo(t, to)
	for range 3 {
		if resp, body := ask(t, c, "GET "+authority+"/ HTTP/1.1\r\nHost: ok.test\r\n\r\n"); resp.StatusCode != 200 || body != "ok" {
			t.Fatalf("answer %v %q", resp, body)
		}
		time.Sleep(20 * time.Millisecond)
	}
}
