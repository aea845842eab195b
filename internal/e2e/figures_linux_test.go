package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The network as a command in a sandbox has it, beside the same client without
// a sandbox behind the least relay that Go can be, and beside srt where
// SALLYPORT_SRT names it ('make bench' does). The client measures, so that the
// start of a sandbox is no part of it.

func init() {
	helpers["bench"] = func() {
		if err := benchClient(os.Args[1], os.Args[2], os.Args[3]); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
	}
}

const (
	benchClients = 16
	echoPort     = 7000
	sinkPort     = 7001
)

// benchHost is where the servers are: a name, or its address.
var benchHost = "allowed.test"

func lookUp(name string) (string, error) {
	addrs, err := resolver.LookupHost(context.Background(), name)
	if err != nil {
		return "", err
	}
	return addrs[0], nil
}

// benchDial connects to a target by itself, to a relay, or through the proxy of
// the environment.
func benchDial(way, target string) (net.Conn, error) {
	switch way {
	case "direct":
		return net.Dial("tcp", target)
	case "proxied":
	default:
		return net.Dial("tcp", way)
	}
	u, err := url.Parse(os.Getenv("http_proxy"))
	if err != nil {
		return nil, err
	}
	c, err := net.Dial("tcp", u.Host)
	if err != nil {
		return nil, err
	}
	auth := ""
	if u.User != nil {
		password, _ := u.User.Password()
		q := http.Request{Header: http.Header{}}
		q.SetBasicAuth(u.User.Username(), password)
		auth = "Proxy-Authorization: " + q.Header.Get("Authorization") + "\r\n"
	}
	fmt.Fprintf(c, "CONNECT %s HTTP/1.1\r\nHost: %s\r\n%s\r\n", target, target, auth)
	head := make([]byte, 0, 512)
	for !strings.HasSuffix(string(head), "\r\n\r\n") {
		if _, err := c.Read(head[len(head) : len(head)+1]); err != nil || len(head) == cap(head)-1 {
			c.Close()
			return nil, fmt.Errorf("CONNECT: %q, %w", head, err)
		}
		head = head[:len(head)+1]
	}
	if !strings.HasPrefix(string(head), "HTTP/1.1 200") {
		c.Close()
		return nil, errors.New(string(head))
	}
	return c, nil
}

// benchClient opens n connections, or sends n MiB over some, and prints what it
// measured; or it holds n connections open.
func benchClient(what, way, count string) error {
	n, err := strconv.Atoi(count)
	if err != nil {
		return err
	}
	if way == "direct" { // one look-up for all
		if benchHost, err = lookUp(benchHost); err != nil {
			return err
		}
	}
	switch what {
	case "connections":
		return benchConnections(way, n)
	case "held":
		return benchHold(way, n)
	}
	streams, err := strconv.Atoi(what)
	if err != nil {
		return err
	}
	start := time.Now()
	err = together(streams, func(int) error { return benchSend(way, n<<20/streams) })
	fmt.Printf("RESULT %f 0\n", float64(n<<20)*8/1e9/time.Since(start).Seconds())
	return err
}

func together(n int, f func(i int) error) error {
	errs := make([]error, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { errs[i] = f(i) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

func benchConnections(way string, n int) error {
	var left atomic.Int64
	left.Store(int64(n))
	times := make([][]time.Duration, benchClients)
	start := time.Now()
	err := together(benchClients, func(i int) error {
		for left.Add(-1) >= 0 {
			start := time.Now()
			if err := benchEcho(way); err != nil {
				return err
			}
			times[i] = append(times[i], time.Since(start))
		}
		return nil
	})
	took := time.Since(start)
	all := slices.Concat(times...)
	slices.Sort(all)
	if len(all) == 0 {
		return errors.Join(errors.New("no connection"), err)
	}
	fmt.Printf("RESULT %f %f\n", float64(len(all))/took.Seconds(), all[len(all)*99/100].Seconds()*1000)
	return err
}

func benchEcho(way string) error {
	c, err := benchDial(way, fmt.Sprint(benchHost, ":", echoPort))
	if err != nil {
		return err
	}
	defer c.Close()
	if t, ok := c.(*net.TCPConn); ok {
		_ = t.SetLinger(0) // else TIME_WAIT eats the ports
	}
	buf := make([]byte, 100)
	if _, err := c.Write(buf); err != nil {
		return err
	}
	_, err = io.ReadFull(c, buf)
	return err
}

// benchHold uses each of its connections once, and keeps them.
func benchHold(way string, n int) error {
	for range n {
		c, err := benchDial(way, fmt.Sprint(benchHost, ":", echoPort))
		if err != nil {
			return err
		}
		if _, err := c.Write([]byte("x")); err != nil {
			return err
		}
		if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
			return err
		}
	}
	fmt.Println("ready")
	_, _ = io.Copy(io.Discard, os.Stdin)
	return nil
}

func benchSend(way string, size int) error {
	c, err := benchDial(way, fmt.Sprint(benchHost, ":", sinkPort))
	if err != nil {
		return err
	}
	defer c.Close()
	buf := make([]byte, 1<<20)
	fmt.Fprintf(c, "%16d", size)
	for left := size; left > 0; {
		n, err := c.Write(buf[:min(left, len(buf))])
		if err != nil {
			return err
		}
		left -= n
	}
	_, err = io.ReadFull(c, buf[:1]) // it has arrived
	return err
}

// benchServer runs on the far side.
func benchServer(t *testing.T, port int, serve func(net.Conn)) {
	t.Helper()
	var l net.Listener
	if err := internet.there(func() (err error) { l, err = net.Listen("tcp", fmt.Sprint(thereV4, ":", port)); return err }); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	accept(l, serve)
}

func accept(l net.Listener, serve func(net.Conn)) {
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				serve(c)
			}()
		}
	}()
}

func benchEchoes(c net.Conn) { _, _ = io.Copy(c, c) }

func benchSink(c net.Conn) {
	var size int64
	if _, err := fmt.Fscanf(io.LimitReader(c, 16), "%d", &size); err != nil {
		return
	}
	if n, _ := io.CopyN(io.Discard, c, size); n == size {
		_, _ = c.Write([]byte("x"))
	}
}

// bareRelay accepts, dials and splices.
func bareRelay(t *testing.T, port int) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	accept(l, func(c net.Conn) {
		up, err := net.Dial("tcp", fmt.Sprint(thereV4, ":", port))
		if err != nil {
			return
		}
		defer up.Close()
		go func() {
			if _, err := io.Copy(up, c); err != nil {
				// A reset goes on as one: what stays in TIME_WAIT makes the search
				// for a port the dearest part of every later connection, whosever.
				_ = up.(*net.TCPConn).SetLinger(0)
				_ = up.Close()
				return
			}
			_ = up.(*net.TCPConn).CloseWrite()
		}()
		_, _ = io.Copy(c, up)
	})
	return l.Addr().String()
}

// contender runs the client and gives its output.
type contender struct {
	name string
	run  func(t *testing.T, args ...string) string
}

func contenders(t *testing.T, port int) []contender {
	relay := bareRelay(t, port)
	sandboxed := func(way string) func(*testing.T, ...string) string {
		return func(t *testing.T, args ...string) string {
			r := newHome(t).allow("allowed.test").helper("bench", args[0], way, args[1])
			return r.out + r.err
		}
	}
	list := []contender{
		{"relay", func(t *testing.T, args ...string) string {
			h := newHome(t)
			h.env = append(h.env, helperEnv+"=bench")
			return output(t, h, h.helperPath(), args[0], relay, args[1])
		}},
		{"sallyport", sandboxed("direct")},
		{"sallyport-connect", sandboxed("proxied")},
	}
	if srt := os.Getenv("SALLYPORT_SRT"); srt != "" {
		list = append(list, contender{"srt", func(t *testing.T, args ...string) string {
			h := newHome(t)
			settings, _ := json.Marshal(map[string]any{
				"network":    map[string]any{"allowedDomains": []string{"allowed.test"}, "deniedDomains": []string{}},
				"filesystem": map[string]any{"denyRead": []string{}, "allowWrite": []string{"."}, "denyWrite": []string{}}})
			file := h.write("srt.json", string(settings)) // under another name than sallyport reads
			return output(t, h, srt, "--settings", file, "env", helperEnv+"=bench", h.helperPath(), args[0], "proxied", args[1])
		}})
	}
	return list
}

func output(t *testing.T, h *home, argv ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	out, _ := h.program(ctx, argv[0], argv[1:]...).CombinedOutput() // without a result it has failed
	return string(out)
}

// measured is how many connections are opened, and MiB sent: 'make bench' says.
func measured(t *testing.T) (connections, mib int) {
	t.Helper()
	said := os.Getenv("SALLYPORT_FIGURES")
	if said == "" {
		t.Skip("SALLYPORT_FIGURES is not set; 'make bench' sets it")
	}
	if _, err := fmt.Sscan(said, &connections, &mib); err != nil {
		t.Fatalf("SALLYPORT_FIGURES wants CONNECTIONS MIB: %v", err)
	}
	return connections, mib
}

// measure runs every contender in turn, three times, and shows each run.
func measure(t *testing.T, port int, what string, count int, unit string) {
	t.Helper()
	list := contenders(t, port)
	for range 3 {
		for _, c := range list {
			spent := processors()
			out := c.run(t, what, strconv.Itoa(count))
			spent = processors() - spent
			_, result, ok := strings.Cut(out, "RESULT ")
			var figure, p99 float64
			if _, err := fmt.Sscan(result, &figure, &p99); err != nil || !ok {
				t.Fatalf("%s: %s", c.name, out)
			}
			line := fmt.Sprintf("%-18s %8.1f %s", c.name, figure, unit)
			if p99 > 0 {
				line += fmt.Sprintf(", p99 %.1f ms, %d µs of the processors each", p99, spent.Microseconds()/int64(count))
			}
			fmt.Println(line)
		}
	}
}

func TestFiguresOfConnections(t *testing.T) {
	n, _ := measured(t)
	benchServer(t, echoPort, benchEchoes)
	measure(t, echoPort, "connections", n, "connections/s")
}

func TestFiguresOfMemory(t *testing.T) {
	measured(t)
	benchServer(t, echoPort, benchEchoes)
	for _, n := range []int{0, 1000} {
		for range 3 {
			b := newHome(t).allow("allowed.test").background("bench", "held", "direct", strconv.Itoa(n))
			time.Sleep(2 * time.Second) // until it has settled
			status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", b.Process.Pid))
			if err != nil {
				t.Fatal(err)
			}
			_, rss, _ := strings.Cut(string(status), "VmRSS:")
			rss, _, _ = strings.Cut(rss, "\n")
			fmt.Printf("%d connections held: %s\n", n, strings.TrimSpace(rss))
			b.stop()
		}
	}
}

func TestFiguresOfThroughput(t *testing.T) {
	_, mib := measured(t)
	benchServer(t, sinkPort, benchSink)
	for _, streams := range []string{"1", "4"} {
		fmt.Println(streams, "streams")
		measure(t, sinkPort, streams, mib, "Gbit/s")
	}
}

// processors is what this process, which is the server and the bare relay, and
// those that it has waited for have used.
func processors() (used time.Duration) {
	for _, who := range []int{unix.RUSAGE_SELF, unix.RUSAGE_CHILDREN} {
		var r unix.Rusage
		if unix.Getrusage(who, &r) == nil {
			used += time.Duration(r.Utime.Nano() + r.Stime.Nano())
		}
	}
	return used
}
