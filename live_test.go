package sallyport

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/event"
	"github.com/sallyport/sallyport/internal/policy"
	"github.com/sallyport/sallyport/proxy"
)

// generations are policies that take each other's place: stable.test is allowed
// by all, even.test and odd.test by every second, and inner.test by none, for it
// leads to an address that only the others allow.
func generations(t *testing.T) [2]*policy.Policy {
	t.Helper()
	var out [2]*policy.Policy
	for i, text := range []string{
		`network: {allowedDomains: [stable.test, even.test, inner.test]}`,
		`network: {allowedDomains: [stable.test, odd.test, 10.0.0.0/8]}`,
	} {
		f, err := policy.Parse(policy.Source{Name: fmt.Sprint("generation ", i), Data: []byte(text)})
		if err != nil {
			t.Fatal(err)
		}
		if out[i], err = policy.New(policy.Env{Home: "/home/u", Cwd: "/home/u"}, f); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

type lookUp map[string]string

func (l lookUp) LookupNetIP(_ context.Context, _, host string) ([]netip.Addr, error) {
	return []netip.Addr{netip.MustParseAddr(l[host])}, nil
}

// echoThrough makes a proxy under l whose every way out leads to an echo server;
// it gives the proxy's unix socket.
func echoThrough(t *testing.T, l *live) string {
	t.Helper()
	echo, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { echo.Close() })
	go func() {
		for {
			c, err := echo.Accept()
			if err != nil {
				return
			}
			go func() { defer c.Close(); io.Copy(c, c) }()
		}
	}()
	p, err := proxy.New(proxy.Config{
		Decider: l, Parent: l.parent, Emit: func(event.Event) {},
		Resolver: lookUp{"stable.test.": "9.9.9.9", "even.test.": "9.9.9.8", "odd.test.": "9.9.9.7", "inner.test.": "10.1.1.1"},
		Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, echo.Addr().String())
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(t.TempDir(), "proxy")
	sock, err := net.Listen("unix", name)
	if err != nil {
		t.Fatal(err)
	}
	go p.Serve(context.Background(), proxy.Listeners{Unix: sock})
	t.Cleanup(func() { p.Close() })
	return name
}

// tunnel asks for a host through the proxy; nil: refused.
func tunnel(t *testing.T, sock, host string) net.Conn {
	t.Helper()
	c, err := net.Dial("unix", sock)
	if err != nil {
		t.Error(err)
		return nil
	}
	c.SetDeadline(time.Now().Add(time.Minute))
	fmt.Fprintf(c, "CONNECT %s:7000 HTTP/1.1\r\nHost: %s:7000\r\n\r\n", host, host)
	resp, err := http.ReadResponse(bufio.NewReader(c), &http.Request{Method: "CONNECT"})
	switch {
	case err != nil:
		t.Errorf("%s: dropped without an answer: %v", host, err)
	case resp.StatusCode == http.StatusOK:
		return c
	case resp.StatusCode != http.StatusForbidden:
		t.Errorf("%s: %s", host, resp.Status)
	}
	c.Close()
	return nil
}

func echoes(c net.Conn) error {
	if _, err := io.WriteString(c, "ping"); err != nil {
		return err
	}
	_, err := io.ReadFull(c, make([]byte, 4))
	return err
}

func TestUnderLoadNoConnectionIsDroppedNorWronglyDecidedByAnUpdate(t *testing.T) {
	policies := generations(t)
	l := newLive(policies[0])
	sock := echoThrough(t, l)
	kept := tunnel(t, sock, "even.test") // by a policy that will be gone
	if kept == nil {
		t.Fatal("even.test is refused by the policy that allows it")
	}
	defer kept.Close()

	// The number of the policy that holds, and of the one to come, which differ
	// while it is replaced.
	var before, after atomic.Int64
	stop := make(chan struct{})
	var wait sync.WaitGroup
	var decided, unchanged atomic.Int64
	client := func(i int) {
		for n := i; ; n++ {
			select {
			case <-stop:
				return
			default:
			}
			host := []string{"stable.test", "even.test", "odd.test", "inner.test"}[n%4]
			from := after.Load()
			c := tunnel(t, sock, host)
			until := before.Load()
			decided.Add(1)
			allowed := c != nil
			if c != nil {
				if err := echoes(c); err != nil {
					t.Errorf("%s: an allowed connection was dropped: %v", host, err)
				}
				c.Close()
			}
			switch {
			case host == "stable.test" && !allowed, host == "inner.test" && allowed:
				t.Errorf("%s: allowed %v, policies %d to %d", host, allowed, from, until)
			case from != until || n%4 == 0 || n%4 == 3: // either would do
			case allowed != (host == []string{"even.test", "odd.test"}[from%2]):
				t.Errorf("%s: allowed %v by policy %d", host, allowed, from)
			default:
				unchanged.Add(1)
			}
		}
	}
	for i := range 16 {
		wait.Go(func() { client(i) })
	}
	for n := int64(1); n <= 300 || decided.Load() < 3000 || unchanged.Load() < 200; n++ {
		before.Store(n)
		l.now.Store(policies[n%2])
		after.Store(n)
		time.Sleep(time.Duration(n%8) * time.Millisecond)
		if err := echoes(kept); err != nil {
			t.Fatalf("after update %d the connection that was open: %v", n, err)
		}
		if t.Failed() {
			break
		}
	}
	close(stop)
	wait.Wait()
	t.Logf("%d connections, %d updates, %d decided between two", decided.Load(), after.Load(), unchanged.Load())
}

// What a policy can decide, the one that takes its place can.
var _ interface {
	proxy.Decider
	proxy.NoSNIDecider
	proxy.UpgradeDecider
	proxy.AskedDecider
} = (*live)(nil)
