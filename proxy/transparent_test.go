package proxy

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/event"
)

func TestNameIsReachedThroughItsFakeAddress(t *testing.T) {
	r := newRig(t, allowing("ok.test"))
	r.outside("ok.test", 443, webServer(t, true, func(w http.ResponseWriter, q *http.Request) {
		fmt.Fprintf(w, "hello over %s from %s", q.Proto, q.TLS.ServerName)
	}))
	to := r.captureName("ok.test", 443)
	client := &http.Client{Transport: &http.Transport{
		ForceAttemptHTTP2: true,
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true},
		DialContext:       func(context.Context, string, string) (net.Conn, error) { return net.Dial("tcp", to) },
	}}
	for range 3 {
		resp, err := client.Get("https://ok.test/")
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if string(body) != "hello over HTTP/2.0 from ok.test" {
			t.Fatalf("body = %q", body)
		}
	}
	client.CloseIdleConnections()
	got := r.allowances()
	if len(got) != 1 || got[0].Object.Host != "ok.test" || got[0].Object.Port != 443 ||
		got[0].Reason != event.RuleAllowed || got[0].Rule != "test.yaml:1" || got[0].Layer != event.LayerProxy {
		t.Errorf("allowed events = %s", show(got))
	}
	if d := r.denials(); len(d) != 0 {
		t.Errorf("denials = %s", show(d))
	}
}

func TestServerThatSpeaksFirstIsNotDelayed(t *testing.T) {
	r := newRig(t, allowing("ok.test"))
	r.outside("ok.test", 25000, serveTCP(t, func(c *net.TCPConn) {
		io.WriteString(c, "220 hello\r\n")
		echo(c)
	}))
	c := dialTo(t, r.captureName("ok.test", 25000))
	br := bufio.NewReader(c)
	start := time.Now()
	if line, err := br.ReadString('\n'); err != nil || line != "220 hello\r\n" {
		t.Fatalf("greeting %q, %v", line, err)
	}
	if d := time.Since(start); d > 2*time.Second {
		t.Errorf("the greeting took %s", d)
	}
	for _, say := range []string{"EHLO client\r\n", "NICK x", "\x00\x01binary"} {
		io.WriteString(c, say)
		got := make([]byte, len(say))
		if _, err := io.ReadFull(br, got); err != nil || string(got) != say {
			t.Fatalf("echo of %q = %q, %v", say, got, err)
		}
	}
}

func TestHalfCloseCrossesBothWays(t *testing.T) {
	r := newRig(t, allowing("ok.test"))
	r.outside("ok.test", 7000, serveTCP(t, func(c *net.TCPConn) {
		b, _ := io.ReadAll(c) // until the client's half is closed
		c.Write(bytes.ToUpper(b))
	}))
	c := dialTo(t, r.captureName("ok.test", 7000))
	io.WriteString(c, "all of it")
	c.CloseWrite()
	got, err := io.ReadAll(c)
	if err != nil || string(got) != "ALL OF IT" {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestResetCrossesAsReset(t *testing.T) {
	r := newRig(t, allowing("ok.test"))
	r.outside("ok.test", 7000, serveTCP(t, func(c *net.TCPConn) {
		io.ReadFull(c, make([]byte, 1))
		c.SetLinger(0)
	}))
	c := dialTo(t, r.captureName("ok.test", 7000))
	io.WriteString(c, "x")
	if !isReset(c) {
		t.Error("the server's reset did not reach the client")
	}
}

func TestBulkArrivesWhole(t *testing.T) {
	const size = 32 << 20
	sum := func(r io.Reader) [32]byte {
		h := sha256.New()
		io.CopyN(h, r, size)
		return [32]byte(h.Sum(nil))
	}
	pattern := func() io.Reader {
		return io.LimitReader(&counting{}, size)
	}
	want := sum(pattern())
	r := newRig(t, allowing("ok.test"))
	up := make(chan [32]byte, 1)
	r.outside("ok.test", 7000, serveTCP(t, func(c *net.TCPConn) {
		done := make(chan struct{})
		go func() { io.Copy(c, pattern()); close(done) }()
		up <- sum(c)
		<-done
	}))
	c := dialTo(t, r.captureName("ok.test", 7000))
	go func() { io.Copy(c, pattern()); c.CloseWrite() }()
	if got := sum(c); got != want {
		t.Error("what came down differs")
	}
	if got := <-up; got != want {
		t.Error("what went up differs")
	}
	eventually(t, "byte counts", func() bool {
		n := r.p.Counters()
		return n.BytesIn == size && n.BytesOut == size
	})
}

// counting gives bytes that repeat only after an odd length, so that lost,
// doubled and moved blocks show.
type counting struct{ n int }

var noise = func() []byte {
	b := make([]byte, 1<<18+3)
	rand.NewChaCha8([32]byte{1}).Read(b)
	return b
}()

func (c *counting) Read(b []byte) (int, error) {
	n := copy(b, noise[c.n:])
	c.n = (c.n + n) % len(noise)
	return n, nil
}

func TestRefusalSpeaksTheClientsProtocol(t *testing.T) {
	t.Run("TLS gets the alert access_denied", func(t *testing.T) {
		r := newRig(t, allowing("ok.test"))
		c := dialTo(t, r.captureName("evil.test", 443))
		err := tlsOver(c, "evil.test").Handshake()
		if err == nil || !strings.Contains(err.Error(), "access denied") {
			t.Errorf("handshake: %v", err)
		}
		r.wantDenial(event.NotAllowed)
	})
	t.Run("TLS on another port, too", func(t *testing.T) {
		r := newRig(t, allowing("ok.test"))
		c := dialTo(t, r.captureName("evil.test", 8443))
		if err := tlsOver(c, "evil.test").Handshake(); err == nil || !strings.Contains(err.Error(), "access denied") {
			t.Errorf("handshake: %v", err)
		}
		r.wantDenial(event.NotAllowed)
	})
	t.Run("HTTP gets a readable 403", func(t *testing.T) {
		r := newRig(t, "network: {deniedDomains: [evil.test], deniedDomainReasons: {evil.test: not here}}\n")
		c := dialTo(t, r.captureName("evil.test", 80))
		resp, body := ask(t, c, "GET / HTTP/1.1\r\nHost: evil.test\r\n\r\n")
		if resp.StatusCode != 403 || resp.Header.Get("X-Sallyport-Reason") != "rule-denied" {
			t.Errorf("response %d %v", resp.StatusCode, resp.Header)
		}
		for _, want := range []string{"evil.test port 80", "rule: test.yaml:1", "note: not here", "fix: "} {
			if !strings.Contains(body, want) {
				t.Errorf("body lacks %q:\n%s", want, body)
			}
		}
		if e := r.wantDenial(event.RuleDenied); e.Detail != "not here" || e.Rule != "test.yaml:1" {
			t.Errorf("event %+v", e)
		}
	})
	t.Run("anything else is reset", func(t *testing.T) {
		r := newRig(t, allowing("ok.test"))
		c := dialTo(t, r.captureName("evil.test", 5432))
		if !isReset(c) {
			t.Error("not reset")
		}
		r.wantDenial(event.NotAllowed)
	})
}

func TestPlainAddressIsRefusedUnlessARuleNamesIt(t *testing.T) {
	for _, origin := range []string{"93.184.216.34:7000", "[2606:2800:220:1::1]:7000", "[::ffff:93.184.216.34]:7000"} {
		r := newRig(t, allowing("ok.test"))
		if !resets(t, r.capture(origin)) {
			t.Errorf("%s: not reset", origin)
		}
		e := r.wantDenial(event.AddressLiteral)
		want := netip.MustParseAddrPort(origin)
		if e.Object.Addr != want.Addr().Unmap().String() || e.Object.Port != want.Port() || e.Object.Host != "" {
			t.Errorf("%s: object %+v", origin, e.Object)
		}
		if resolved, dialled := r.wentOutside(); len(resolved)+len(dialled) != 0 {
			t.Errorf("%s: went outside: %v %v", origin, resolved, dialled)
		}
	}
	r := newRig(t, allowing("93.184.216.34:7000"))
	r.servers["93.184.216.34:7000"] = serveTCP(t, echo)
	c := dialTo(t, r.capture("93.184.216.34:7000"))
	io.WriteString(c, "hi")
	c.CloseWrite()
	if got, err := io.ReadAll(c); err != nil || string(got) != "hi" {
		t.Errorf("allowed address: %q, %v", got, err)
	}
}

func TestFakeAddressWithoutANameIsRefused(t *testing.T) {
	r := newRig(t, allowing("ok.test"))
	if !resets(t, r.capture("198.18.7.7:9999")) {
		t.Error("not reset")
	}
	r.wantDenial(event.UnknownDest)
}

func TestConnectionOfUnknownOriginIsRefused(t *testing.T) {
	for name, origin := range map[string]netip.AddrPort{
		"none": {}, "unspecified": netip.MustParseAddrPort("0.0.0.0:80"),
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, allowing("ok.test"))
			if !resets(t, r.listen(origin)) {
				t.Error("not reset")
			}
			r.wantDenial(event.UnknownDest)
		})
	}
}

func TestUnreachableServerIsRecordedAsAllowed(t *testing.T) {
	r := newRig(t, allowing("ok.test", "gone.test"))
	r.resolves("ok.test", "93.184.216.9")
	for _, name := range []string{"ok.test", "gone.test"} { // refused; does not resolve
		if !resets(t, r.captureName(name, 7000)) {
			t.Errorf("%s: not reset", name)
		}
	}
	got := r.allowances()
	if len(got) != 2 || got[0].Reason != event.Unreachable || got[1].Reason != event.Unreachable {
		t.Errorf("events %s", show(got))
	}
}

func TestCanaryAnswersOnceAndLeavesNoTrace(t *testing.T) {
	token := sha256.Sum256([]byte("token"))
	want := sha256.Sum256(token[:])
	canary := func(c *Config) { c.Canary = Canary{netip.MustParseAddrPort("192.0.2.1:1"), token} }
	say := func(r *rig, b []byte) []byte {
		c := dialTo(t, r.capture("192.0.2.1:1"))
		c.Write(b)
		got, _ := io.ReadAll(c)
		return got
	}
	t.Run("right token", func(t *testing.T) {
		r := newRig(t, allowing("ok.test"), canary)
		if got := say(r, token[:]); !bytes.Equal(got, want[:]) {
			t.Fatalf("answer %x", got)
		}
		if n := r.p.Counters(); n.Conns != 0 || len(r.denials()) != 0 {
			t.Errorf("counted or recorded: %+v", n)
		}
		if got := say(r, token[:]); len(got) != 0 {
			t.Errorf("answered twice: %x", got)
		}
		r.wantDenial(event.AddressDenied)
	})
	t.Run("wrong token", func(t *testing.T) {
		r := newRig(t, allowing("ok.test"), canary)
		if got := say(r, make([]byte, 32)); len(got) != 0 {
			t.Fatalf("answer %x", got)
		}
		r.wantDenial(event.AddressDenied)
		if got := say(r, token[:]); len(got) != 0 {
			t.Errorf("answered after a wrong token: %x", got)
		}
	})
	t.Run("no canary set", func(t *testing.T) {
		r := newRig(t, allowing("ok.test"), func(c *Config) { c.Canary.Addr = netip.MustParseAddrPort("192.0.2.1:1") })
		if got := say(r, make([]byte, 32)); len(got) != 0 {
			t.Errorf("the zero token was answered: %x", got)
		}
	})
}

func TestAllowedConnectionsAreOneEventAProcess(t *testing.T) {
	pid := 0
	r := newRig(t, allowing("ok.test"), func(c *Config) {
		c.ProcessOf = func(Endpoints) (*event.Process, []event.Process) {
			return &event.Process{PID: 100 + pid, ExecID: fmt.Sprint(pid)}, nil
		}
	})
	r.outside("ok.test", 7000, serveTCP(t, echo))
	to := r.captureName("ok.test", 7000)
	for range 3 {
		for range 2 {
			c := dialTo(t, to)
			io.WriteString(c, "x")
			c.CloseWrite()
			io.ReadAll(c)
		}
		pid++
	}
	got := r.allowances()
	if len(got) != 3 {
		t.Fatalf("events %s", show(got))
	}
	for _, e := range got {
		if e.Count != 2 || e.Process == nil || e.Last.Before(e.First) {
			t.Errorf("event %+v", e)
		}
	}
}

func TestConnectionThatSaysNothingIsRecorded(t *testing.T) {
	for _, port := range []uint16{80, 443, 7000} {
		r := newRig(t, allowing("ok.test"))
		r.outside("ok.test", port, serveTCP(t, echo))
		c := dialTo(t, r.captureName("ok.test", port))
		eventually(t, "dial", func() bool { _, d := r.wentOutside(); return len(d) == 1 })
		time.Sleep(10 * time.Millisecond)
		c.Close()
		eventually(t, "end", func() bool { return r.p.Counters().OpenConns == 0 })
		if got := r.allowances(); len(got) != 1 || len(r.denials()) != 0 {
			t.Errorf("port %d: %s", port, show(append(got, r.denials()...)))
		}
	}
}

func TestQuietAllowanceIsRecordedBeforeTheEnd(t *testing.T) {
	r := newRig(t, allowing("ok.test"), func(c *Config) { c.Limits.AllowQuiet = 20 * time.Millisecond })
	r.p.goTracked(nil, r.p.flushLoop)
	r.outside("ok.test", 7000, serveTCP(t, echo))
	c := dialTo(t, r.captureName("ok.test", 7000))
	io.WriteString(c, "x")
	io.ReadFull(c, make([]byte, 1))
	time.Sleep(100 * time.Millisecond)
	recorded := func() int {
		r.mu.Lock()
		defer r.mu.Unlock()
		return len(r.events)
	}
	if recorded() != 0 {
		t.Fatal("recorded while open")
	}
	c.Close()
	eventually(t, "event", func() bool { return recorded() == 1 })
}
