package proxy

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/event"
	"github.com/sallyport/sallyport/internal/policy"
)

// The proxy is measured beside the least a Go program can do: accept, dial,
// io.Copy both ways, which splices. Each runs in a process of its own, so that
// its CPU time and memory are its own. Clients and server are here.

const benchEnv = "SALLYPORT_BENCH" // "relay" or "proxy" and the upstream; "client", address and number

// benchMain is the measured process. It ends with its standard input.
func benchMain(what string) error {
	kind, upstream, _ := strings.Cut(what, " ")
	if kind == "client" {
		return benchClient(upstream)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(l.Addr())
	if kind == "relay" {
		go bareRelay(l, upstream)
	} else if err := benchProxy(l, upstream, map[string]uint16{"proxy": 7000, "proxy80": 80}[kind]); err != nil {
		return err
	}
	io.Copy(io.Discard, os.Stdin)
	return nil
}

func bareRelay(l net.Listener, upstream string) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			up, err := net.Dial("tcp", upstream)
			if err != nil {
				return
			}
			defer up.Close()
			go func() {
				io.Copy(up, c)
				up.(*net.TCPConn).CloseWrite()
			}()
			io.Copy(c, up)
			c.(*net.TCPConn).CloseWrite()
		}()
	}
}

// benchPolicy has many rules and allows ok.test.
func benchPolicy(rules int) (*policy.Policy, error) {
	var b strings.Builder
	b.WriteString("network:\n  allowedDomains:\n  - ok.test\n")
	for i := range rules / 2 {
		fmt.Fprintf(&b, "  - a%d.example%d.com\n  - '*.b%d.example.org'\n", i, i, i)
	}
	f, err := policy.Parse(policy.Source{Name: "bench.yaml", Data: []byte(b.String()), Dir: "/"})
	if err != nil {
		return nil, err
	}
	return policy.New(policy.Env{
		Home: "/home/u", Cwd: "/work", ConfigDir: "/c", StateDir: "/s", CacheDir: "/k", RuntimeDir: "/r", Exe: "/e",
	}, f)
}

func benchProxy(l net.Listener, upstream string, port uint16) error {
	pol, err := benchPolicy(1000)
	if err != nil {
		return err
	}
	var origin netip.AddrPort
	p, err := New(Config{
		Decider: pol, Emit: func(event.Event) {}, Resolver: fixedDNS{},
		Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, upstream)
		},
		Origin: func(net.Conn) (netip.AddrPort, error) { return origin, nil },
	})
	if err != nil {
		return err
	}
	a, err := p.fakes.addr("ok.test", 10)
	if err != nil {
		return err
	}
	origin = netip.AddrPortFrom(a, port)
	go p.Serve(context.Background(), Listeners{TCP: []net.Listener{l}})
	return nil
}

// fixedDNS knows one address.
type fixedDNS struct{}

func (fixedDNS) LookupNetIP(context.Context, string, string) ([]netip.Addr, error) {
	return []netip.Addr{netip.AddrFrom4([4]byte{93, 184, 216, 34})}, nil
}

// measured is a running process and what it has used.
type measured struct {
	cmd  *exec.Cmd
	stop io.Closer
	addr string
}

func measure(b testing.TB, kind, upstream string) *measured {
	b.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), benchEnv+"="+kind+" "+upstream)
	cmd.Stderr = os.Stderr
	stop, _ := cmd.StdinPipe()
	out, _ := cmd.StdoutPipe()
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	addr, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		b.Fatal(err)
	}
	return &measured{cmd, stop, strings.TrimSpace(addr)}
}

// end stops the process and gives its CPU time.
func (m *measured) end() time.Duration {
	m.stop.Close()
	m.cmd.Wait()
	s := m.cmd.ProcessState
	return s.UserTime() + s.SystemTime()
}

// rss is the process's resident memory in MiB.
func (m *measured) rss() float64 {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/statm", m.cmd.Process.Pid))
	var size, resident int
	fmt.Sscan(string(b), &size, &resident)
	return float64(resident*os.Getpagesize()) / (1 << 20)
}

// sides runs f against each side.
func sides(b *testing.B, f func(b *testing.B, kind string)) {
	for _, kind := range []string{"relay", "proxy"} {
		b.Run(kind, func(b *testing.B) { f(b, kind) })
	}
}

// BenchmarkThroughput moves 1 GiB an operation.
func BenchmarkThroughput(b *testing.B) {
	const size = 1 << 30
	sink := serveTCP(b, func(c *net.TCPConn) {
		n, _ := io.Copy(io.Discard, c)
		fmt.Fprintln(c, n)
	})
	for _, streams := range []int{1, 4} {
		b.Run(fmt.Sprint(streams), func(b *testing.B) {
			sides(b, func(b *testing.B, kind string) {
				m := measure(b, kind, sink)
				b.SetBytes(size)
				b.ResetTimer()
				for range b.N {
					var wg sync.WaitGroup
					for range streams {
						wg.Go(func() { push(b, m.addr, size/streams) })
					}
					wg.Wait()
				}
				b.StopTimer()
				b.ReportMetric(float64(m.end().Milliseconds())/float64(b.N), "cpu-ms/GiB")
			})
		})
	}
}

var pushBuffer = make([]byte, 1<<20)

func push(b *testing.B, addr string, size int) {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		b.Error(err)
		return
	}
	defer c.Close()
	for sent := 0; sent < size; {
		n, err := c.Write(pushBuffer[:min(len(pushBuffer), size-sent)])
		if err != nil {
			b.Error(err)
			return
		}
		sent += n
	}
	c.(*net.TCPConn).CloseWrite()
	var got int
	if fmt.Fscan(c, &got); got != size {
		b.Errorf("%d of %d bytes arrived", got, size)
	}
}

const benchClients = 16

// together runs n operations by a few clients and gives how many a second there
// were, and the 99th percentile in milliseconds.
func together(n int, client func() func() error) (rate, p99 float64, err error) {
	var left atomic.Int64
	left.Store(int64(n))
	times := make([][]time.Duration, benchClients)
	errs := make([]error, benchClients)
	var wg sync.WaitGroup
	start := time.Now()
	for i := range benchClients {
		wg.Go(func() {
			op := client()
			for left.Add(-1) >= 0 {
				start := time.Now()
				if errs[i] = op(); errs[i] != nil {
					return
				}
				times[i] = append(times[i], time.Since(start))
			}
		})
	}
	wg.Wait()
	took := time.Since(start)
	all := slices.Concat(times...)
	slices.Sort(all)
	if len(all) > 0 {
		p99 = float64(all[len(all)*99/100].Microseconds()) / 1000
	}
	return float64(len(all)) / took.Seconds(), p99, errors.Join(errs...)
}

// report runs n operations and reports them.
func report(b *testing.B, n int, client func() func() error) {
	rate, p99, err := together(n, client)
	if err != nil {
		b.Error(err)
	}
	b.ReportMetric(rate, "op/s")
	b.ReportMetric(p99, "p99-ms")
}

// connector opens a connection to addr, says and hears 100 bytes, closes it.
func connector(addr string) func() func() error {
	return func() func() error {
		buf := make([]byte, 100)
		return func() error {
			c, err := net.Dial("tcp", addr)
			if err != nil {
				return err
			}
			defer c.Close()
			c.(*net.TCPConn).SetLinger(0) // else TIME_WAIT eats the ports
			if _, err := c.Write(buf); err != nil {
				return err
			}
			_, err = io.ReadFull(c, buf)
			return err
		}
	}
}

// benchClient is the client that runs inside a namespace.
func benchClient(what string) error {
	var addr string
	var n int
	if _, err := fmt.Sscan(what, &addr, &n); err != nil {
		return err
	}
	rate, p99, err := together(n, connector(addr))
	fmt.Printf("RESULT %f %f\n", rate, p99)
	return err
}

// BenchmarkCaptured is BenchmarkConnections by the whole way: out of a
// namespace, captured by the kernel, to a fake address.
func BenchmarkCaptured(b *testing.B) {
	r := newRig(b, allowing("ok.test"), realOrigin)
	r.outside("ok.test", 7000, serveTCP(b, echo))
	n := newNetns(b, r)
	exe, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	b.ResetTimer()
	out, err := n.run([]string{fmt.Sprintf("%s=client %s:7000 %d", benchEnv, r.fake("ok.test"), b.N)}, exe)
	b.StopTimer()
	_, result, ok := strings.Cut(out, "RESULT ")
	var rate, p99 float64
	if fmt.Sscan(result, &rate, &p99); err != nil || !ok {
		b.Fatalf("%v: %s", err, out)
	}
	b.ReportMetric(rate, "op/s")
	b.ReportMetric(p99, "p99-ms")
	r.mu.Lock()
	r.dialled, r.resolved = nil, nil
	r.mu.Unlock()
}

// BenchmarkConnections opens, uses and closes a connection an operation.
func BenchmarkConnections(b *testing.B) {
	upstream := serveTCP(b, echo)
	sides(b, func(b *testing.B, kind string) {
		m := measure(b, kind, upstream)
		b.ResetTimer()
		report(b, b.N, connector(m.addr))
		b.StopTimer()
		b.ReportMetric(float64(m.end().Microseconds())/float64(b.N), "cpu-µs/op")
	})
}

// BenchmarkKeepAlive says 100 bytes and hears 1 KiB on connections that stay.
func BenchmarkKeepAlive(b *testing.B) {
	upstream := serveTCP(b, func(c *net.TCPConn) {
		in, out := make([]byte, 100), make([]byte, 1024)
		for {
			if _, err := io.ReadFull(c, in); err != nil {
				return
			}
			c.Write(out)
		}
	})
	sides(b, func(b *testing.B, kind string) {
		m := measure(b, kind, upstream)
		b.ResetTimer()
		report(b, b.N, func() func() error {
			c, err := net.Dial("tcp", m.addr)
			if err != nil {
				return func() error { return err }
			}
			b.Cleanup(func() { c.Close() })
			out, in := make([]byte, 100), make([]byte, 1024)
			return func() error {
				if _, err := c.Write(out); err != nil {
					return err
				}
				_, err := io.ReadFull(c, in)
				return err
			}
		})
		b.StopTimer()
		b.ReportMetric(float64(m.end().Microseconds())/float64(b.N), "cpu-µs/op")
	})
}

// BenchmarkHTTP makes plain requests on connections that stay: each is parsed,
// decided and written anew, where the relay only copies.
func BenchmarkHTTP(b *testing.B) {
	body := make([]byte, 1024)
	upstream := webServer(b, false, func(w http.ResponseWriter, _ *http.Request) { w.Write(body) })
	sides(b, func(b *testing.B, kind string) {
		m := measure(b, strings.Replace(kind, "proxy", "proxy80", 1), upstream)
		tr := &http.Transport{
			MaxIdleConnsPerHost: benchClients,
			DialContext:         func(context.Context, string, string) (net.Conn, error) { return net.Dial("tcp", m.addr) },
		}
		b.ResetTimer()
		report(b, b.N, func() func() error {
			return func() error {
				resp, err := (&http.Client{Transport: tr}).Get("http://ok.test/")
				if err != nil {
					return err
				}
				defer resp.Body.Close()
				_, err = io.Copy(io.Discard, resp.Body)
				return err
			}
		})
		b.StopTimer()
		tr.CloseIdleConnections()
		b.ReportMetric(float64(m.end().Microseconds())/float64(b.N), "cpu-µs/op")
	})
}

// BenchmarkIdleMemory holds connections that have been used once.
func BenchmarkIdleMemory(b *testing.B) {
	upstream := serveTCP(b, echo)
	for _, conns := range []int{1000, 10000} {
		b.Run(fmt.Sprint(conns), func(b *testing.B) {
			var lim syscall.Rlimit
			if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &lim); int(lim.Cur) < 3*conns {
				b.Skipf("%d descriptors are too few", lim.Cur)
			}
			sides(b, func(b *testing.B, kind string) {
				for range b.N {
					m := measure(b, kind, upstream)
					start := m.rss()
					var open []net.Conn
					for range conns {
						c, err := net.Dial("tcp", m.addr)
						if err != nil {
							b.Fatal(err)
						}
						open = append(open, c)
						c.Write([]byte("x"))
						if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
							b.Fatal(err)
						}
					}
					b.ReportMetric(m.rss(), "MiB")
					b.ReportMetric((m.rss()-start)*1024/float64(conns), "KiB/conn")
					for _, c := range open {
						c.Close()
					}
					m.end()
				}
			})
		})
	}
}

func BenchmarkDecision(b *testing.B) {
	for _, rules := range []int{10, 10000} {
		pol, err := benchPolicy(rules)
		if err != nil {
			b.Fatal(err)
		}
		for _, host := range []string{"ok.test", "x.y.b4.example.org", "evil.test"} {
			b.Run(fmt.Sprintf("%d rules/%s", rules, host), func(b *testing.B) {
				addr := netip.MustParseAddr("93.184.216.34")
				for range b.N {
					h, err := policy.ParseHost(host)
					if err != nil {
						b.Fatal(err)
					}
					req := policy.NetRequest{Host: h, Port: 443}
					if pol.DecideNet(req).Allowed() {
						pol.DecideResolved(req, addr)
					}
				}
			})
		}
	}
}

func BenchmarkClientHello(b *testing.B) {
	h := clientHello(b, "ok.test", nil)
	b.ReportAllocs()
	for range b.N {
		if _, err := readHello(bufio.NewReader(strings.NewReader(string(h))), 1<<16, nil); err != nil {
			b.Fatal(err)
		}
	}
}
