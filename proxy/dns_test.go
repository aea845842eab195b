package proxy

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/sallyport/sallyport/internal/event"
)

// query packs a question.
func query(t testing.TB, name string, kind dnsmessage.Type, class dnsmessage.Class) []byte {
	t.Helper()
	n, err := dnsmessage.NewName(name)
	if err != nil {
		t.Fatal(err)
	}
	m := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: 7, RecursionDesired: true},
		Questions: []dnsmessage.Question{{Name: n, Type: kind, Class: class}},
	}
	b, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

var dnsClient = Endpoints{
	Proto: "udp", Client: netip.MustParseAddrPort("198.18.0.1:5353"), Origin: netip.MustParseAddrPort("127.0.0.53:53"),
}

// resolve asks the sandbox's DNS directly.
func (r *rig) resolve(name string, kind dnsmessage.Type) dnsmessage.Message {
	r.t.Helper()
	b, err := r.p.answerDNS(query(r.t, name, kind, dnsmessage.ClassINET), dnsClient)
	if err != nil {
		r.t.Fatal(err)
	}
	var m dnsmessage.Message
	if err := m.Unpack(b); err != nil {
		r.t.Fatal(err)
	}
	if m.ID != 7 || !m.Response || !m.RecursionDesired || !m.RecursionAvailable || len(m.Questions) != 1 {
		r.t.Fatalf("reply %+v", m)
	}
	return m
}

func TestAllowedNamesGetStableAddresses(t *testing.T) {
	r := newRig(t, allowing("ok.test", "*.ok.test"))
	addr := func(name string) netip.Addr {
		m := r.resolve(name, dnsmessage.TypeA)
		if m.RCode != dnsmessage.RCodeSuccess || len(m.Answers) != 1 || m.Answers[0].Header.TTL != 1 {
			t.Fatalf("%s: %+v", name, m)
		}
		return netip.AddrFrom4(m.Answers[0].Body.(*dnsmessage.AResource).A)
	}
	a, b := addr("ok.test."), addr("a.ok.test.")
	if a == b || addr("OK.Test.") != a || addr("a.ok.test.") != b {
		t.Errorf("addresses %s, %s", a, b)
	}
	if !fakeRange.Contains(a) || a == netip.MustParseAddr("198.18.0.1") || a == netip.MustParseAddr("198.18.0.0") {
		t.Errorf("address %s", a)
	}
	if m := r.resolve(reverse(b), dnsmessage.TypePTR); len(m.Answers) != 1 || m.Answers[0].Body.(*dnsmessage.PTRResource).PTR.String() != "a.ok.test." {
		t.Errorf("PTR: %+v", m)
	}
	if resolved, dialled := r.wentOutside(); len(resolved)+len(dialled)+len(r.denials()) != 0 {
		t.Errorf("went outside: %v %v; denied %s", resolved, dialled, show(r.denials()))
	}
}

func reverse(a netip.Addr) string {
	b := a.As4()
	return fmt.Sprintf("%d.%d.%d.%d.in-addr.arpa.", b[3], b[2], b[1], b[0])
}

func TestQueriesAndTheirAnswers(t *testing.T) {
	const any = event.Reason(255) // no event
	for _, c := range []struct {
		name   string
		kind   dnsmessage.Type
		class  dnsmessage.Class
		code   dnsmessage.RCode
		reason event.Reason
	}{
		{"ok.test.", dnsmessage.TypeAAAA, 1, dnsmessage.RCodeSuccess, any},
		{"ok.test.", dnsmessage.TypeHTTPS, 1, dnsmessage.RCodeSuccess, any},
		{"ok.test.", dnsmessage.TypeSVCB, 1, dnsmessage.RCodeSuccess, any},
		{"ok.test.", dnsmessage.TypeTXT, 1, dnsmessage.RCodeRefused, event.DNSType},
		{"ok.test.", dnsmessage.TypeMX, 1, dnsmessage.RCodeRefused, event.DNSType},
		{"ok.test.", dnsmessage.TypeALL, 1, dnsmessage.RCodeRefused, event.DNSType},
		{"ok.test.", dnsmessage.TypeAXFR, 1, dnsmessage.RCodeRefused, event.DNSType},
		{"ok.test.", dnsmessage.Type(10), 1, dnsmessage.RCodeRefused, event.DNSType},
		{"ok.test.", dnsmessage.TypeA, dnsmessage.ClassCHAOS, dnsmessage.RCodeRefused, event.DNSType},
		{"version.bind.", dnsmessage.TypeTXT, dnsmessage.ClassCHAOS, dnsmessage.RCodeNameError, event.NotAllowed},
		{"evil.test.", dnsmessage.TypeA, 1, dnsmessage.RCodeNameError, event.NotAllowed},
		{"evil.test.", dnsmessage.TypeTXT, 1, dnsmessage.RCodeNameError, event.NotAllowed},
		{"notok.test.", dnsmessage.TypeA, 1, dnsmessage.RCodeNameError, event.NotAllowed},
		{"ok.test.evil.", dnsmessage.TypeA, 1, dnsmessage.RCodeNameError, event.NotAllowed},
		{"denied.test.", dnsmessage.TypeA, 1, dnsmessage.RCodeNameError, event.RuleDenied},
		{".", dnsmessage.TypeA, 1, dnsmessage.RCodeNameError, event.NameInvalid},
		{"evil\x00.ok.test.", dnsmessage.TypeA, 1, dnsmessage.RCodeNameError, event.NameInvalid},
		{"a b.ok.test.", dnsmessage.TypeA, 1, dnsmessage.RCodeNameError, event.NameInvalid},
		{"0x7f.1.", dnsmessage.TypeA, 1, dnsmessage.RCodeNameError, event.NameInvalid},
		{"127.0.0.1.", dnsmessage.TypeA, 1, dnsmessage.RCodeNameError, event.AddressLiteral},
		{"1.0.18.198.in-addr.arpa.", dnsmessage.TypePTR, 1, dnsmessage.RCodeNameError, any},
		{"8.8.8.8.in-addr.arpa.", dnsmessage.TypePTR, 1, dnsmessage.RCodeNameError, any},
		{"data.x.8.8.in-addr.arpa.", dnsmessage.TypePTR, 1, dnsmessage.RCodeNameError, any},
		{"1.0.0.0.ip6.arpa.", dnsmessage.TypePTR, 1, dnsmessage.RCodeNameError, any},
		{"ok.test.", dnsmessage.TypePTR, 1, dnsmessage.RCodeRefused, event.DNSType},
	} {
		t.Run(fmt.Sprintf("%q %v %v", c.name, c.kind, c.class), func(t *testing.T) {
			r := newRig(t, "network: {allowedDomains: [ok.test, '*.ok.test'], deniedDomains: [denied.test]}\n")
			b, err := r.p.answerDNS(query(t, c.name, c.kind, c.class), dnsClient)
			if err != nil {
				t.Fatal(err)
			}
			var m dnsmessage.Message
			if err := m.Unpack(b); err != nil || m.RCode != c.code || len(m.Answers) != 0 {
				t.Errorf("reply %+v, %v", m, err)
			}
			if resolved, _ := r.wentOutside(); len(resolved) != 0 {
				t.Errorf("resolved %v", resolved)
			}
			if c.reason == any {
				if d := r.denials(); len(d) != 0 {
					t.Errorf("denials %s", show(d))
				}
				return
			}
			e := r.wantDenial(c.reason)
			if e.Layer != event.LayerDNS || e.Operation != event.NetDNS || e.Object.Proto != "udp" ||
				e.Object.Addr != "127.0.0.53" || e.Object.Port != 53 || string(e.Object.Host)+"." != c.name && c.name != "." {
				t.Errorf("event %+v", e)
			}
		})
	}
}

func TestOneLookUpIsOneEvent(t *testing.T) {
	// Ports up to 9 belong to nobody, others by tens to a process.
	r := newRig(t, allowing("ok.test"), func(c *Config) {
		c.ProcessOf = func(e Endpoints) (*event.Process, []event.Process) {
			if pid := int(e.Client.Port()) / 10; pid > 0 {
				return &event.Process{PID: pid, ExecID: fmt.Sprint(pid)}, nil
			}
			return nil, nil
		}
	})
	ask := func(port uint16, kind dnsmessage.Type) {
		ends := dnsClient
		ends.Client = netip.AddrPortFrom(ends.Client.Addr(), port)
		if _, err := r.p.answerDNS(query(t, "evil.test.", kind, dnsmessage.ClassINET), ends); err != nil {
			t.Fatal(err)
		}
	}
	for i, step := range []struct {
		port uint16
		kind dnsmessage.Type
		want int
	}{
		{1, dnsmessage.TypeA, 1}, {1, dnsmessage.TypeAAAA, 1}, // one getaddrinfo
		{1, dnsmessage.TypeA, 2}, {1, dnsmessage.TypeAAAA, 2}, // another
		{2, dnsmessage.TypeAAAA, 3}, {3, dnsmessage.TypeA, 4}, // two sockets
		{4, dnsmessage.TypeA, 5}, {4, dnsmessage.TypeA, 6}, // the same question twice
		{5, dnsmessage.TypeTXT, 7}, {5, dnsmessage.TypeTXT, 8},
		{10, dnsmessage.TypeA, 9}, {11, dnsmessage.TypeAAAA, 9}, // one process, from two sockets
		{12, dnsmessage.TypeAAAA, 10}, {13, dnsmessage.TypeA, 10}, // again
		{14, dnsmessage.TypeA, 11}, {15, dnsmessage.TypeA, 12}, {16, dnsmessage.TypeAAAA, 12}, {17, dnsmessage.TypeAAAA, 12}, // two at once
		{20, dnsmessage.TypeA, 13}, {30, dnsmessage.TypeAAAA, 14}, // two processes
	} {
		ask(step.port, step.kind)
		if n := len(r.denials()); n != step.want {
			t.Fatalf("step %d: %d events, want %d", i, n, step.want)
		}
	}
}

func TestNameCapGivesSERVFAILAndAnEvent(t *testing.T) {
	r := newRig(t, allowing("*.ok.test"), func(c *Config) { c.Limits.MaxNames = 3 })
	for i := range 3 {
		if m := r.resolve(fmt.Sprintf("a%d.ok.test.", i), dnsmessage.TypeA); m.RCode != 0 {
			t.Fatalf("name %d: %v", i, m.RCode)
		}
	}
	if m := r.resolve("a3.ok.test.", dnsmessage.TypeA); m.RCode != dnsmessage.RCodeServerFailure {
		t.Errorf("over the cap: %v", m.RCode)
	}
	if m := r.resolve("a1.ok.test.", dnsmessage.TypeA); m.RCode != 0 {
		t.Errorf("a known name over the cap: %v", m.RCode)
	}
	r.wantDenial(event.LimitExceeded)
}

func TestFakeAddressesStayInTheirRange(t *testing.T) {
	table := newFakeTable()
	seen := map[netip.Addr]bool{}
	for i := range defaultMaxNames {
		a, err := table.addr(fmt.Sprint(i), defaultMaxNames)
		if err != nil || seen[a] || !fakeRange.Contains(a) {
			t.Fatalf("name %d: %s, %v", i, a, err)
		}
		seen[a] = true
		if name, ok := table.name(a); !ok || name != fmt.Sprint(i) {
			t.Fatalf("%s stands for %q", a, name)
		}
	}
	if _, err := table.addr("one more", defaultMaxNames); err != errNamesFull {
		t.Errorf("over the cap: %v", err)
	}
	for _, a := range []string{"198.18.0.0", "198.18.0.1", "198.19.255.255", "198.17.255.255", "198.20.0.0", "::1"} {
		if name, ok := table.name(netip.MustParseAddr(a)); ok || seen[netip.MustParseAddr(a)] {
			t.Errorf("%s stands for %q", a, name)
		}
	}
}

func TestMalformedDNS(t *testing.T) {
	r := newRig(t, allowing("ok.test"))
	good := query(t, "ok.test.", dnsmessage.TypeA, dnsmessage.ClassINET)
	with := func(i int, b byte) []byte {
		c := append([]byte(nil), good...)
		c[i] = b
		return c
	}
	for name, c := range map[string]struct {
		in   []byte
		code dnsmessage.RCode // 255: no reply
	}{
		"empty":          {nil, 255},
		"half a header":  {good[:11], 255},
		"a response":     {with(2, 0x81), 255},
		"an update":      {with(2, 0x29), dnsmessage.RCodeNotImplemented},
		"no question":    {with(5, 0), dnsmessage.RCodeFormatError},
		"two questions":  {with(5, 2), dnsmessage.RCodeFormatError},
		"cut":            {good[:len(good)-1], dnsmessage.RCodeFormatError},
		"pointer loop":   {append(append([]byte(nil), good[:12]...), 0xc0, 12, 0, 1, 0, 1), dnsmessage.RCodeFormatError},
		"dot in a label": {with(14, '.'), dnsmessage.RCodeFormatError},
	} {
		b, err := r.p.answerDNS(c.in, dnsClient)
		if c.code == 255 {
			if err == nil {
				t.Errorf("%s: answered %x", name, b)
			}
			continue
		}
		var m dnsmessage.Message
		if err != nil || m.Unpack(b) != nil || m.RCode != c.code {
			t.Errorf("%s: %+v, %v", name, m, err)
		}
	}
	if n := r.p.Counters(); n.DNSMalformed != 9 || n.DNSQueries != 9 {
		t.Errorf("counters %+v", n)
	}
	d := r.denials()
	for _, e := range d {
		if e.Reason != event.RequestInvalid || e.Rule != "builtin:dns-malformed" {
			t.Errorf("event %+v", e)
		}
	}
	if len(d) != 9 {
		t.Errorf("%d of 9 are recorded", len(d))
	}
}

// serveDNS runs the sandbox's DNS on a dual-stack socket.
func serveDNS(t *testing.T, r *rig) (udp, tcp netip.AddrPort) {
	t.Helper()
	u, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv6unspecified})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r.mu.Lock()
	r.origins[l.Addr().String()] = netip.MustParseAddrPort("8.8.8.8:53")
	r.mu.Unlock()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.p.Serve(ctx, Listeners{DNSPacket: u, DNSStream: l}) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	eventually(t, "socket option", func() bool { return dnsAnswers(u) })
	return u.LocalAddr().(*net.UDPAddr).AddrPort(), l.Addr().(*net.TCPAddr).AddrPort()
}

func reverseQuery() ([]byte, error) {
	m := dnsmessage.Message{Questions: []dnsmessage.Question{{
		Name: dnsmessage.MustNewName("1.0.0.127.in-addr.arpa."), Type: dnsmessage.TypePTR, Class: dnsmessage.ClassINET}}}
	return m.Pack()
}

// dnsAnswers reports whether the server has taken the socket.
func dnsAnswers(u *net.UDPConn) bool {
	c, err := net.Dial("udp", netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), localPort(u)).String())
	if err != nil {
		return false
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(100 * time.Millisecond))
	q, err := reverseQuery() // refused by nobody, so recorded by nobody
	if err != nil {
		return false
	}
	c.Write(q)
	_, err = c.Read(make([]byte, 16))
	return err == nil
}

func TestDNSAnswersFromTheAddressThatWasAsked(t *testing.T) {
	r := newRig(t, allowing("ok.test"))
	udp, _ := serveDNS(t, r)
	// A connected socket takes answers from its peer alone.
	for _, server := range []string{"127.0.0.1", "127.0.0.53", "127.9.8.7", "::1"} {
		c, err := net.Dial("udp", netip.AddrPortFrom(netip.MustParseAddr(server), udp.Port()).String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(5 * time.Second))
		c.Write(query(t, "evil.test.", dnsmessage.TypeA, dnsmessage.ClassINET))
		b := make([]byte, 512)
		n, err := c.Read(b)
		var m dnsmessage.Message
		if err != nil || m.Unpack(b[:n]) != nil || m.RCode != dnsmessage.RCodeNameError {
			t.Errorf("%s: %+v, %v", server, m, err)
		}
		d := r.denials()
		if e := d[len(d)-1]; e.Object.Addr != server || e.Object.Port != udp.Port() {
			t.Errorf("%s: event %+v", server, e)
		}
	}
}

func TestRealResolverIsServed(t *testing.T) {
	r := newRig(t, allowing("ok.test"))
	udp, tcp := serveDNS(t, r)
	for network, to := range map[string]string{
		"udp": netip.AddrPortFrom(netip.MustParseAddr("127.0.0.53"), udp.Port()).String(), "tcp": tcp.String(),
	} {
		res := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, to)
		}}
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		addrs, err := res.LookupNetIP(ctx, "ip", "ok.test.")
		if err != nil || len(addrs) != 1 || addrs[0].Unmap() != r.fake("ok.test") {
			t.Errorf("%s: %v, %v", network, addrs, err)
		}
		names, err := res.LookupAddr(ctx, r.fake("ok.test").String())
		if err != nil || len(names) != 1 || names[0] != "ok.test." {
			t.Errorf("%s: %v, %v", network, names, err)
		}
		_, err = res.LookupNetIP(ctx, "ip4", "evil.test.")
		if e, ok := err.(*net.DNSError); !ok || !e.IsNotFound {
			t.Errorf("%s: evil.test: %v", network, err)
		}
	}
}

func TestDNSStream(t *testing.T) {
	t.Run("answers many queries on one connection", func(t *testing.T) {
		r := newRig(t, allowing("ok.test"))
		_, tcp := serveDNS(t, r)
		c := dialTo(t, tcp.String())
		for _, name := range []string{"ok.test.", "evil.test.", "ok.test."} {
			q := query(t, name, dnsmessage.TypeA, dnsmessage.ClassINET)
			c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(q))), q...))
			b, err := readDNSMessage(c)
			var m dnsmessage.Message
			if err != nil || m.Unpack(b) != nil || (m.RCode == 0) != (name == "ok.test.") {
				t.Errorf("%s: %+v, %v", name, m, err)
			}
		}
		if e := r.wantDenial(event.NotAllowed); e.Object.Proto != "tcp" || e.Object.Addr != "8.8.8.8" {
			t.Errorf("event %+v", e)
		}
	})
	t.Run("ends on a message that is too long", func(t *testing.T) {
		r := newRig(t, allowing("ok.test"))
		_, tcp := serveDNS(t, r)
		c := dialTo(t, tcp.String())
		c.Write([]byte{0xff, 0xff, 1})
		if b, _ := io.ReadAll(c); len(b) != 0 {
			t.Errorf("answered %x", b)
		}
		r.wantDenial(event.RequestInvalid)
	})
	t.Run("records what is no DNS", func(t *testing.T) {
		r := newRig(t, allowing("ok.test"))
		_, tcp := serveDNS(t, r)
		c := dialTo(t, tcp.String())
		c.Write([]byte("GET / HTTP/1.1\r\n\r\n"))
		if b, _ := io.ReadAll(c); len(b) != 0 {
			t.Errorf("answered %x", b)
		}
		if e := r.wantDenial(event.RequestInvalid); e.Object.Addr != "8.8.8.8" || e.Rule != "builtin:dns-malformed" {
			t.Errorf("event %+v", e)
		}
	})
	t.Run("is capped", func(t *testing.T) {
		r := newRig(t, allowing("ok.test"), func(c *Config) { c.Limits.MaxDNSConns = 2 })
		_, tcp := serveDNS(t, r)
		q := query(t, "ok.test.", dnsmessage.TypeA, dnsmessage.ClassINET)
		for range 2 {
			c := dialTo(t, tcp.String())
			c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(q))), q...))
			if _, err := readDNSMessage(c); err != nil {
				t.Fatal(err)
			}
		}
		if !resets(t, tcp.String()) {
			t.Error("the third was not reset")
		}
		r.wantDenial(event.LimitExceeded)
	})
}

func FuzzDNS(f *testing.F) {
	f.Add(query(f, "ok.test.", dnsmessage.TypeA, dnsmessage.ClassINET))
	f.Add(query(f, "evil.test.", dnsmessage.TypeAAAA, dnsmessage.ClassINET))
	f.Add(query(f, "2.0.18.198.in-addr.arpa.", dnsmessage.TypePTR, dnsmessage.ClassINET))
	f.Add(query(f, "a\x00b.ok.test.", dnsmessage.TypeTXT, dnsmessage.ClassCHAOS))
	f.Add([]byte{0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0xc0, 12, 0, 1, 0, 1})
	r := newRig(f, allowing("ok.test", "*.ok.test"))
	r.p.cfg.Emit = func(event.Event) {}
	f.Fuzz(func(t *testing.T, b []byte) {
		out, err := r.p.answerDNS(b, dnsClient)
		if err != nil {
			return
		}
		var q dnsmessage.Parser
		h, err := q.Start(b)
		if err != nil || h.Response {
			t.Fatalf("%x was answered", b)
		}
		var m dnsmessage.Message
		if err := m.Unpack(out); err != nil || !m.Response || m.ID != h.ID || len(out) > 600 {
			t.Fatalf("%x: reply %x: %v", b, out, err)
		}
		for _, a := range m.Answers {
			body, ok := a.Body.(*dnsmessage.AResource)
			if ok && !strings.HasSuffix(strings.ToLower(a.Header.Name.String()), "ok.test.") {
				t.Fatalf("%x: %v has address %v", b, a.Header.Name, body.A)
			}
		}
	})
}
