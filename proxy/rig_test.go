package proxy

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/event"
	"github.com/sallyport/sallyport/internal/policy"
)

// rig is a proxy under the real policy with an outside of our own: names and
// addresses look global and lead to servers on 127.0.0.1; nothing else can be
// resolved or dialled.
type rig struct {
	t        testing.TB
	p        *Proxy
	explicit string // address of the explicit proxy

	mu       sync.Mutex
	events   []event.Event
	names    map[string][]netip.Addr // outside DNS
	servers  map[string]string       // outside address to real one
	resolved []string
	dialled  []string
	origins  map[string]netip.AddrPort // our listener to the original destination
}

var selfAddr = netip.MustParseAddrPort("198.18.0.1:9040")

type rigOption func(*Config)

func newRig(t testing.TB, policyText string, opts ...rigOption) *rig {
	t.Helper()
	r := &rig{
		t: t, names: map[string][]netip.Addr{}, servers: map[string]string{},
		origins: map[string]netip.AddrPort{},
	}
	cfg := Config{
		Decider: parsePolicy(t, policyText),
		Emit: func(e event.Event) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.events = append(r.events, e)
		},
		Self:     []netip.AddrPort{selfAddr},
		Resolver: r,
		Dial:     r.dial,
		Origin:   r.origin,
		Limits:   Limits{ResolveFor: time.Nanosecond}, // tests change what names mean
	}
	for _, o := range opts {
		o(&cfg)
	}
	p, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	r.p = p
	r.explicit = r.listen(selfAddr)
	t.Cleanup(func() { p.Close() })
	return r
}

func parsePolicy(t testing.TB, text string) *policy.Policy {
	t.Helper()
	f, err := policy.Parse(policy.Source{Name: "test.yaml", Data: []byte(text), Dir: "/work"})
	if err != nil {
		t.Fatal(err)
	}
	p, err := policy.New(policy.Env{
		Home: "/home/u", Cwd: "/work", ConfigDir: "/home/u/.config", StateDir: "/home/u/.state",
		CacheDir: "/home/u/.cache", RuntimeDir: "/run/user/1", Exe: "/usr/bin/sallyport",
	}, f)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// allowing is a policy that allows these hosts.
func allowing(hosts ...string) string {
	return "network: {allowedDomains: [\"" + strings.Join(hosts, `", "`) + "\"]}\n"
}

var quiet = log.New(io.Discard, "", 0)

// listen accepts as the sandbox's listener would for one original destination.
func (r *rig) listen(origin netip.AddrPort) string {
	r.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		r.t.Fatal(err)
	}
	r.mu.Lock()
	r.origins[l.Addr().String()] = origin
	r.mu.Unlock()
	r.p.goTracked(l, func() { r.p.acceptLoop(l, r.p.serveCaptured) })
	return l.Addr().String()
}

// capture gives a listener that stands for a connection to origin.
func (r *rig) capture(origin string) string {
	r.t.Helper()
	return r.listen(netip.MustParseAddrPort(origin))
}

// captureName is capture for a name, through the sandbox's DNS.
func (r *rig) captureName(name string, port uint16) string {
	r.t.Helper()
	return r.listen(netip.AddrPortFrom(r.fake(name), port))
}

// fake is the address the sandbox's DNS gives a name.
func (r *rig) fake(name string) netip.Addr {
	r.t.Helper()
	a, err := r.p.fakes.addr(name, defaultMaxNames)
	if err != nil {
		r.t.Fatal(err)
	}
	return a
}

func (r *rig) origin(c net.Conn) (netip.AddrPort, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	o, ok := r.origins[c.LocalAddr().String()]
	if !ok {
		return netip.AddrPort{}, errors.New("nothing known of " + c.LocalAddr().String())
	}
	return o, nil
}

// LookupNetIP is the outside's DNS.
func (r *rig) LookupNetIP(_ context.Context, _, host string) ([]netip.Addr, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	host = strings.TrimSuffix(host, ".")
	r.resolved = append(r.resolved, host)
	addrs, ok := r.names[host]
	if !ok {
		return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
	}
	return append([]netip.Addr(nil), addrs...), nil
}

func (r *rig) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	r.mu.Lock()
	r.dialled = append(r.dialled, addr)
	to, ok := r.servers[addr]
	r.mu.Unlock()
	if !ok {
		return nil, &net.OpError{Op: "dial", Net: network, Err: syscall.ECONNREFUSED}
	}
	return (&net.Dialer{}).DialContext(ctx, network, to)
}

// outside puts a server at name and port, with an address of its own.
func (r *rig) outside(name string, port uint16, real string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	addrs, ok := r.names[name]
	if !ok {
		addrs = []netip.Addr{netip.AddrFrom4([4]byte{93, 184, 216, byte(len(r.names) + 1)})}
		r.names[name] = addrs
	}
	r.servers[netip.AddrPortFrom(addrs[0], port).String()] = real
}

func (r *rig) resolves(name string, addrs ...string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.names[name] = nil
	for _, a := range addrs {
		r.names[name] = append(r.names[name], netip.MustParseAddr(a))
	}
}

func (r *rig) wentOutside() (resolved, dialled []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]string(nil), r.resolved...), append([]string(nil), r.dialled...)
}

// denials are the events of refusals so far.
func (r *rig) denials() []event.Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []event.Event
	for _, e := range r.events {
		if e.Verdict.Denied() {
			out = append(out, e)
		}
	}
	return out
}

// wantDenial waits for the one denial there must be.
func (r *rig) wantDenial(reason event.Reason) event.Event {
	r.t.Helper()
	eventually(r.t, "a denial", func() bool { return len(r.denials()) > 0 })
	got := r.denials()
	if len(got) != 1 || got[0].Reason != reason {
		r.t.Fatalf("denials = %s, want one of %s", show(got), reason)
	}
	if got[0].Rule == "" || got[0].Count != 1 || got[0].Time.IsZero() {
		r.t.Fatalf("incomplete event %s", show(got))
	}
	return got[0]
}

// allowances closes the proxy and gives the events of what was let through.
func (r *rig) allowances() []event.Event {
	r.p.Close()
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []event.Event
	for _, e := range r.events {
		if !e.Verdict.Denied() {
			out = append(out, e)
		}
	}
	return out
}

func show(es []event.Event) string {
	var b strings.Builder
	for _, e := range es {
		fmt.Fprintf(&b, "\n  %s %s %s %+v rule=%s count=%d %q", e.Verdict, e.Operation, e.Reason, e.Object, e.Rule, e.Count, e.Detail)
	}
	return b.String()
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatalf("no %s in time", what)
}

// dialTo connects to one of our listeners.
func dialTo(t testing.TB, addr string) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	c.SetDeadline(time.Now().Add(20 * time.Second))
	t.Cleanup(func() { c.Close() })
	return c.(*net.TCPConn)
}

// serveTCP runs a server for each connection.
func serveTCP(t testing.TB, serve func(*net.TCPConn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				serve(c.(*net.TCPConn))
			}()
		}
	}()
	return l.Addr().String()
}

// echo sends back what comes and ends when the client does.
func echo(c *net.TCPConn) {
	io.Copy(c, c)
	c.CloseWrite()
}

// webServer serves what the handler says, with or without TLS.
func webServer(t testing.TB, secure bool, h http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewUnstartedServer(h)
	s.Config.ErrorLog = quiet
	if secure {
		s.EnableHTTP2 = true
		s.StartTLS()
	} else {
		s.Start()
	}
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

// tlsOver speaks TLS on a connection, asking for name.
func tlsOver(c net.Conn, name string) *tls.Conn {
	return tls.Client(c, &tls.Config{ServerName: name, InsecureSkipVerify: true})
}

// clientHello is the first flight of a client that asks for name.
func clientHello(t testing.TB, name string, cfg *tls.Config) []byte {
	t.Helper()
	if cfg == nil {
		cfg = &tls.Config{}
	}
	cfg.ServerName, cfg.InsecureSkipVerify = name, true
	a, b := net.Pipe()
	defer b.Close()
	go func() {
		tls.Client(a, cfg).Handshake()
		a.Close()
	}()
	head := make([]byte, 5)
	if _, err := io.ReadFull(b, head); err != nil {
		t.Fatal(err)
	}
	body := make([]byte, binary.BigEndian.Uint16(head[3:]))
	if _, err := io.ReadFull(b, body); err != nil {
		t.Fatal(err)
	}
	return append(head, body...)
}

// ask sends bytes and reads an HTTP response.
func ask(t testing.TB, c net.Conn, request string) (*http.Response, string) {
	t.Helper()
	if _, err := io.WriteString(c, request); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatalf("read response: %v", err)
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	return resp, string(body)
}

// connectTo opens a CONNECT tunnel.
func (r *rig) connectTo(target string) (net.Conn, *http.Response, string) {
	r.t.Helper()
	c := dialTo(r.t, r.explicit)
	fmt.Fprintf(c, "CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\n", target, target)
	br := bufio.NewReader(oneByte{c})
	resp, err := http.ReadResponse(br, &http.Request{Method: "CONNECT"})
	if err != nil {
		r.t.Fatalf("CONNECT %s: %v", target, err)
	}
	body := ""
	if resp.StatusCode != 200 {
		b, _ := io.ReadAll(resp.Body)
		body = string(b)
	}
	return c, resp, body
}

// socksTo asks for a name or address through SOCKS5 and gives the reply code.
func (r *rig) socksTo(host string, port uint16) (net.Conn, byte) {
	r.t.Helper()
	c := dialTo(r.t, r.explicit)
	req := []byte{5, 1, 0, 5, 1, 0}
	if a, err := netip.ParseAddr(host); err == nil && a.Is4() {
		req = append(append(req, 1), a.AsSlice()...)
	} else if err == nil {
		b := a.As16()
		req = append(append(req, 4), b[:]...)
	} else {
		req = append(append(req, 3, byte(len(host))), host...)
	}
	c.Write(binary.BigEndian.AppendUint16(req, port))
	var answer [12]byte
	if _, err := io.ReadFull(c, answer[:]); err != nil {
		r.t.Fatalf("SOCKS5 to %q: %v", host, err)
	}
	return c, answer[3]
}

// isReset reports whether the next read of c fails for a reset.
func isReset(c net.Conn) bool {
	_, err := io.ReadAll(c)
	return errors.Is(err, syscall.ECONNRESET)
}

// resets reports whether a connection to addr is reset, at once or later.
func resets(t testing.TB, addr string) bool {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return errors.Is(err, syscall.ECONNRESET)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(20 * time.Second))
	return isReset(c)
}
