package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/event"
	"github.com/sallyport/sallyport/internal/policy"
)

func TestDefaultsFitTheDescriptors(t *testing.T) {
	for descriptors, want := range map[int]int{1 << 20: defaultMaxConns, 1024: 240, 10: 1} {
		if got := (Limits{}).withDefaults(descriptors).MaxConns; got != want {
			t.Errorf("%d descriptors: %d connections", descriptors, got)
		}
	}
	l := Limits{MaxConns: 7, MaxNames: 1 << 20, Idle: time.Second}.withDefaults(1 << 20)
	if l.MaxConns != 7 || l.Idle != time.Second || l.MaxNames != defaultMaxNames || l.DialTimeout == 0 {
		t.Errorf("%+v", l)
	}
	if n := maxDescriptors(); n < 256 {
		t.Errorf("%d descriptors", n)
	}
}

func TestConnectionsOverTheCapAreResetAndRecorded(t *testing.T) {
	r := newRig(t, allowing("ok.test"), func(c *Config) { c.Limits.MaxConns = 3 })
	r.outside("ok.test", 7000, serveTCP(t, echo))
	to := r.captureName("ok.test", 7000)
	works := func(c net.Conn) bool {
		io.WriteString(c, "x")
		_, err := io.ReadFull(c, make([]byte, 1))
		return err == nil
	}
	var open []net.Conn
	for range 3 {
		c := dialTo(t, to)
		if !works(c) {
			t.Fatal("under the cap")
		}
		open = append(open, c)
	}
	if !resets(t, to) {
		t.Error("over the cap: not reset")
	}
	e := r.wantDenial(event.LimitExceeded)
	if e.Object.Port != 7000 || e.Object.Addr != r.fake("ok.test").String() {
		t.Errorf("event %+v", e)
	}
	if !works(open[0]) {
		t.Error("an old connection suffered")
	}
	open[1].Close()
	eventually(t, "a free place", func() bool { return r.p.Counters().OpenConns == 2 })
	if !works(dialTo(t, to)) {
		t.Error("no new connection after one ended")
	}
}

// failing is a listener that fails before it gives what it has.
type failing struct {
	net.Listener
	errs chan error
}

func (f failing) Accept() (net.Conn, error) {
	select {
	case err := <-f.errs:
		return nil, err
	default:
		return f.Listener.Accept()
	}
}

func TestAcceptGoesOnAfterErrors(t *testing.T) {
	r := newRig(t, allowing("ok.test"))
	r.outside("ok.test", 7000, serveTCP(t, echo))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := failing{l, make(chan error, 8)}
	for _, e := range []error{syscall.EMFILE, syscall.ENFILE, syscall.ECONNABORTED, errors.New("never seen")} {
		f.errs <- &net.OpError{Op: "accept", Err: e}
	}
	r.origins[l.Addr().String()] = netip.AddrPortFrom(r.fake("ok.test"), 7000)
	r.p.goTracked(f, func() { r.p.acceptLoop(f, r.p.serveCaptured) })
	c := dialTo(t, l.Addr().String())
	io.WriteString(c, "x")
	if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
		t.Error(err)
	}
	if n := r.p.Counters().AcceptErrors; n != 4 {
		t.Errorf("%d accept errors counted", n)
	}
}

// panicking is a Decider that fails on one name.
type panicking struct{ Decider }

func (p panicking) DecideNet(q policy.NetRequest) policy.Decision {
	if q.Host.Name == "bug.test" {
		panic("bug")
	}
	return p.Decider.DecideNet(q)
}

func TestPanicStaysInItsConnection(t *testing.T) {
	r := newRig(t, allowing("ok.test", "93.184.216.34"), func(c *Config) { c.Decider = panicking{c.Decider} })
	r.outside("ok.test", 7000, serveTCP(t, echo))
	r.servers["93.184.216.34:8443"] = serveTCP(t, echo)
	io.ReadAll(dialTo(t, r.captureName("bug.test", 7000)))
	tlsOver(dialTo(t, r.capture("93.184.216.34:8443")), "bug.test").Handshake() // inside a relay
	eventually(t, "panics", func() bool { return r.p.Counters().Panics == 2 })
	for _, e := range r.denials() {
		if e.Rule != "builtin:internal-error" {
			t.Errorf("event %+v", e)
		}
	}
	c := dialTo(t, r.captureName("ok.test", 7000))
	io.WriteString(c, "x")
	if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
		t.Errorf("the others do not go on: %v", err)
	}
	eventually(t, "an end of the failed", func() bool { return r.p.Counters().OpenConns == 1 })
}

func TestIdleAndTotalLimitsEndConnections(t *testing.T) {
	for name, set := range map[string]func(*Limits){
		"idle":  func(l *Limits) { l.Idle = 100 * time.Millisecond },
		"total": func(l *Limits) { l.Total = 100 * time.Millisecond },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, allowing("ok.test"), func(c *Config) { set(&c.Limits) })
			r.outside("ok.test", 7000, serveTCP(t, echo))
			c := dialTo(t, r.captureName("ok.test", 7000))
			io.WriteString(c, "x")
			io.ReadFull(c, make([]byte, 1))
			start := time.Now()
			if !isReset(c) || time.Since(start) > 5*time.Second {
				t.Errorf("not ended after %s", time.Since(start))
			}
		})
	}
}

func TestBusyConnectionIsNotIdle(t *testing.T) {
	t.Parallel()
	r := newRig(t, allowing("ok.test"), func(c *Config) { c.Limits.Idle = 2 * time.Second })
	r.outside("ok.test", 7000, serveTCP(t, echo))
	c := dialTo(t, r.captureName("ok.test", 7000))
	for range 10 {
		time.Sleep(300 * time.Millisecond)
		io.WriteString(c, "x")
		if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
	}
}

func TestServerThatStallsHoldsOnlyItsOwnConnection(t *testing.T) {
	t.Parallel()
	r := newRig(t, allowing("ok.test", "stall.test"), func(c *Config) { c.Limits.Idle = 3 * time.Second })
	hold := make(chan struct{})
	defer close(hold)
	r.outside("stall.test", 7000, serveTCP(t, func(*net.TCPConn) { <-hold }))
	r.outside("ok.test", 7000, serveTCP(t, echo))
	stalled := dialTo(t, r.captureName("stall.test", 7000))
	done := make(chan error, 1)
	go func() {
		_, err := io.Copy(stalled, &counting{})
		done <- err
	}()
	c := dialTo(t, r.captureName("ok.test", 7000))
	for range 20 {
		io.WriteString(c, "x")
		if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Millisecond)
	}
	if err := <-done; err == nil {
		t.Error("the stalled connection was not ended")
	}
}

// slowDNS never answers.
type slowDNS struct{}

func (slowDNS) LookupNetIP(ctx context.Context, _, _ string) ([]netip.Addr, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

func TestResolverThatIsDownGivesUpInTime(t *testing.T) {
	r := newRig(t, allowing("ok.test", "93.184.216.34"), func(c *Config) {
		c.Resolver = slowDNS{}
		c.Limits.ResolveTimeout = 200 * time.Millisecond
	})
	r.servers["93.184.216.34:7000"] = serveTCP(t, echo)
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if _, resp, _ := r.connectTo("ok.test:7000"); resp.StatusCode != 504 {
				t.Errorf("answer %v", resp)
			}
		})
	}
	c := dialTo(t, r.capture("93.184.216.34:7000"))
	io.WriteString(c, "x")
	if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
		t.Error(err)
	}
	wg.Wait()
}

func TestSlowAddressDoesNotHoldUpTheNext(t *testing.T) {
	r := newRig(t, allowing("ok.test"))
	r.resolves("ok.test", "2606:2800:220:1::1", "93.184.216.1", "93.184.216.2")
	r.servers["93.184.216.2:7000"] = serveTCP(t, echo)
	dial := r.p.cfg.Dial
	r.p.cfg.Dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
		if strings.HasPrefix(addr, "[") { // a black hole
			<-ctx.Done()
			return nil, ctx.Err()
		}
		return dial(ctx, network, addr)
	}
	start := time.Now()
	c := dialTo(t, r.captureName("ok.test", 7000))
	io.WriteString(c, "x")
	if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	if d := time.Since(start); d < attemptDelay || d > 5*time.Second {
		t.Errorf("took %s", d)
	}
}

func TestNameWithManyAddressesIsNoFlood(t *testing.T) {
	r := newRig(t, allowing("ok.test"))
	var addrs []string
	for i := range 200 {
		addrs = append(addrs, fmt.Sprintf("93.184.216.%d", i+1))
	}
	r.resolves("ok.test", addrs...)
	if !resets(t, r.captureName("ok.test", 7000)) {
		t.Error("not reset")
	}
	if _, dialled := r.wentOutside(); len(dialled) != maxAttempts {
		t.Errorf("%d addresses dialled", len(dialled))
	}
	r.resolves("ok.test", append(addrs, "10.0.0.1")...) // all are checked
	if !resets(t, r.captureName("ok.test", 7000)) {
		t.Error("not reset")
	}
	r.wantDenial(event.AddressDenied)
}

func TestCloseEndsEverythingAndLeavesNothing(t *testing.T) {
	before := runtime.NumGoroutine()
	r := newRig(t, allowing("ok.test"))
	hold := make(chan struct{})
	r.outside("ok.test", 7000, serveTCP(t, func(c *net.TCPConn) { io.Copy(io.Discard, c) }))
	r.outside("ok.test", 443, serveTCP(t, func(c *net.TCPConn) { io.Copy(io.Discard, c) }))
	r.outside("ok.test", 80, serveTCP(t, func(c *net.TCPConn) { <-hold }))
	defer close(hold)
	for _, port := range []uint16{7000, 443, 80} { // in a relay, before the ClientHello, before the head
		for range 5 {
			dialTo(t, r.captureName("ok.test", port))
		}
	}
	waiting := dialTo(t, r.captureName("ok.test", 80)) // for an answer
	io.WriteString(waiting, "GET / HTTP/1.1\r\nHost: ok.test\r\n\r\n")
	dialTo(t, r.explicit)
	eventually(t, "connections", func() bool { return r.p.Counters().OpenConns == 17 && r.p.Counters().Requests == 1 })
	start := time.Now()
	r.p.Close()
	if d := time.Since(start); d > 5*time.Second {
		t.Errorf("Close took %s", d)
	}
	if n := r.p.Counters(); n.OpenConns != 0 || len(r.p.open) != 0 {
		t.Errorf("left %d connections, %d tracked", n.OpenConns, len(r.p.open))
	}
	events := len(r.events)
	time.Sleep(50 * time.Millisecond)
	if len(r.events) != events {
		t.Error("an event after Close")
	}
	eventually(t, "end of goroutines", func() bool { return runtime.NumGoroutine() <= before+25 })
}

func TestResetStormLeavesNothing(t *testing.T) {
	r := newRig(t, allowing("ok.test"))
	r.outside("ok.test", 443, serveTCP(t, echo))
	r.outside("ok.test", 7000, serveTCP(t, echo))
	var to []string
	for _, port := range []uint16{443, 80, 7000} {
		to = append(to, r.captureName("ok.test", port), r.captureName("evil.test", port))
	}
	to = append(to, r.explicit)
	before := runtime.NumGoroutine()
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for k := range 50 {
				c, err := net.Dial("tcp", to[(i+k)%len(to)])
				if err != nil {
					continue
				}
				io.WriteString(c, "\x16\x03\x01GET / HTTP"[(k%2)*3:])
				c.(*net.TCPConn).SetLinger(0)
				c.Close()
			}
		})
	}
	wg.Wait()
	eventually(t, "end of connections", func() bool { return r.p.Counters().OpenConns == 0 })
	eventually(t, "end of goroutines", func() bool { return runtime.NumGoroutine() <= before+10 })
	c := dialTo(t, to[4])
	io.WriteString(c, "x")
	if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
		t.Error(err)
	}
}

func TestAggregateStaysBounded(t *testing.T) {
	emitted := 0
	a := newAggregate(func(event.Event) { emitted++ })
	for i := range 3 * maxAggregated {
		a.begin(event.Event{Count: 1, Verdict: event.Allow, Object: event.Object{Host: event.Text(fmt.Sprint(i))}}).end()
	}
	if len(a.entries) > maxAggregated {
		t.Errorf("%d entries", len(a.entries))
	}
	a.flush(time.Time{})
	if emitted != 3*maxAggregated || len(a.entries) != 0 {
		t.Errorf("%d emitted, %d left", emitted, len(a.entries))
	}
}

func TestAggregateKeepsWhatIsOpen(t *testing.T) {
	var got []event.Event
	a := newAggregate(func(e event.Event) { got = append(got, e) })
	e := event.Event{Count: 1, Verdict: event.Allow, First: time.Now(), Last: time.Now()}
	x, y := a.begin(e), a.begin(e)
	x.end()
	a.flush(time.Now().Add(time.Hour))
	if len(got) != 0 {
		t.Fatal("emitted while a connection is open")
	}
	y.end()
	a.flush(time.Now().Add(-time.Second))
	if len(got) != 0 {
		t.Fatal("emitted before it was quiet for long")
	}
	a.flush(time.Now().Add(time.Second))
	if len(got) != 1 || got[0].Count != 2 {
		t.Fatalf("got %s", show(got))
	}
	a.begin(e).end() // used again and again, it is emitted all the same
	a.flush(time.Now().Add(maxAge - time.Second))
	if len(got) != 2 {
		t.Fatalf("got %s", show(got))
	}
}
