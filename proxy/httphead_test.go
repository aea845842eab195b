package proxy

import (
	"bufio"
	"bytes"
	"net/http"
	"strings"
	"testing"
)

func TestReadHeadTakesNoByteTooMany(t *testing.T) {
	br := bufio.NewReaderSize(strings.NewReader("GET / HTTP/1.1\r\nHost: a\r\n\r\nbody\r\n\r\n"), 16)
	head, err := readHead(br, 100, nil)
	if err != nil || head != "GET / HTTP/1.1\r\nHost: a\r\n" {
		t.Errorf("head %q, %v", head, err)
	}
	if rest, _ := br.ReadString('y'); rest != "body" {
		t.Errorf("rest %q", rest)
	}
	if _, err := readHead(bufio.NewReader(strings.NewReader(strings.Repeat("x", 101))), 100, nil); err != errHeadTooLong {
		t.Errorf("over the limit: %v", err)
	}
	if head, err := readHead(bufio.NewReader(strings.NewReader("ab\r\n\r\n")), 6, nil); err != nil || head != "ab\r\n" {
		t.Errorf("at the limit: %q, %v", head, err)
	}
}

func TestSplitAbsolute(t *testing.T) {
	for in, want := range map[string][2]string{
		"http://a/b":         {"a", "/b"},
		"HTTP://a:1":         {"a:1", "/"},
		"http://a?q=http://": {"a", "/?q=http://"},
		"http://[::1]:80/":   {"[::1]:80", "/"},
		"http://a//b/../c":   {"a", "//b/../c"},
		"http://":            {},
		"http:///a":          {},
		"http://?":           {},
		"http:/a":            {},
		"//a/b":              {},
		"a:443":              {},
	} {
		authority, path, ok := splitAbsolute(in)
		if ok != (want[1] != "") || ok && [2]string{authority, path} != want {
			t.Errorf("splitAbsolute(%q) = %q, %q, %v", in, authority, path, ok)
		}
	}
}

func TestKeepsAlive(t *testing.T) {
	for _, c := range []struct {
		minor int
		conn  string
		want  bool
	}{
		{1, "", true}, {1, "close", false}, {1, "Keep-Alive, CLOSE", false}, {1, "x", true},
		{0, "", false}, {0, "keep-alive", true}, {0, "close, keep-alive", false},
	} {
		for _, name := range []string{"Connection", "proxy-connection"} {
			if got := keepsAlive([]field{{name, c.conn}}, c.minor); got != c.want {
				t.Errorf("HTTP/1.%d, %s: %s: %v", c.minor, name, c.conn, got)
			}
		}
	}
}

// FuzzRequestHead holds the parser against net/http's: what ours takes, that
// one must read in the same way.
func FuzzRequestHead(f *testing.F) {
	for _, s := range []string{
		"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
		"GET http://a:8080/b?c HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
		"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
		"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a\r\nX:\tb \r\n c\r\n\r\n",
		"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		head, err := readHead(bufio.NewReaderSize(bytes.NewReader(b), 64), 1<<12, nil)
		if err != nil {
			return
		}
		r, err := parseRequest(head)
		if err != nil {
			return
		}
		q, err := http.ReadRequest(bufio.NewReader(strings.NewReader(head + "\r\n")))
		if err != nil {
			return // ours refuses fewer targets; those are decided by themselves
		}
		if q.Method != r.method || q.RequestURI != r.target || q.ProtoMinor != r.minor {
			t.Fatalf("%q: %s %s 1.%d, net/http %s %s %s", head, r.method, r.target, r.minor, q.Method, q.RequestURI, q.Proto)
		}
		if chunked := len(q.TransferEncoding) > 0; chunked != r.body.chunked {
			t.Fatalf("%q: chunked %v, net/http %v", head, r.body.chunked, q.TransferEncoding)
		}
		if r.body.length > 0 && q.ContentLength != r.body.length {
			t.Fatalf("%q: length %d, net/http %d", head, r.body.length, q.ContentLength)
		}
		out := string(endToEnd(nil, r.fields))
		again, err := parseRequest("GET / HTTP/1.1\r\n" + out)
		if err != nil || again.body.chunked || again.body.length >= 0 {
			t.Fatalf("%q goes on as %q: %v", head, out, err)
		}
	})
}

// FuzzResponseHead: what is passed on can be parsed again to the same.
func FuzzResponseHead(f *testing.F) {
	f.Add([]byte("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"))
	f.Add([]byte("HTTP/1.0 404 \r\nConnection: close\r\n\r\n"))
	f.Add([]byte("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		head, err := readHead(bufio.NewReaderSize(bytes.NewReader(b), 64), 1<<12, nil)
		if err != nil {
			return
		}
		r, err := parseResponse(head)
		if err != nil {
			return
		}
		out := string(endToEnd(appendStatus(nil, r.status, r.reason), r.fields))
		again, err := parseResponse(out)
		if err != nil || again.status != r.status {
			t.Fatalf("%q goes on as %q: %v", head, out, err)
		}
	})
}
