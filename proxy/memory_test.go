package proxy

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/event"
)

func TestMemoryIsSharedOutAndComesBack(t *testing.T) {
	var m memory
	m.set(4 * copyBuffer)
	a, b := hold{m: &m}, hold{m: &m}
	if !a.grow(readerSize) || a.taken != 0 {
		t.Error("the first page is not free")
	}
	if !a.grow(readerSize+2*copyBuffer) || b.grow(readerSize+1) {
		t.Error("not bounded")
	}
	a.release()
	if !b.grow(readerSize + 1) {
		t.Error("what was released is not free")
	}
	b.release()
	var out []*[]byte
	for i, want := range []int{copyBuffer, copyBuffer, readerSize, readerSize} {
		buf := m.buffer()
		if len(*buf) != want {
			t.Errorf("buffer %d: %d bytes", i, len(*buf))
		}
		out = append(out, buf)
	}
	for _, buf := range out {
		m.free(buf)
	}
	if h, n := m.heads.Load(), m.buffers.Load(); h != 2*copyBuffer || n != 2 {
		t.Errorf("left %d bytes and %d buffers", h, n)
	}
}

func TestSlowLongHeadsAreBoundedTogether(t *testing.T) {
	r := newRig(t, allowing("ok.test"), func(c *Config) { c.Limits.Memory = 256 << 10 })
	r.outside("ok.test", 443, serveTCP(t, echo))
	head := "GET http://ok.test/ HTTP/1.1\r\nHost: ok.test\r\nX: " + strings.Repeat("x", 40<<10)
	hello := endlessHello(60 << 10)[:40<<10]
	var conns []net.Conn
	for range 10 {
		c := dialTo(t, r.explicit)
		io.WriteString(c, head)
		d := dialTo(t, r.captureName("ok.test", 443))
		d.Write(hello)
		conns = append(conns, c, d)
	}
	eventually(t, "refusals", func() bool { return r.p.Counters().Denied[event.LimitExceeded] >= 16 })
	for _, c := range conns {
		c.Close()
	}
	eventually(t, "end of connections", func() bool { return r.p.Counters().OpenConns == 0 })
	eventually(t, "memory back", func() bool { return r.p.mem.heads.Load() == 128<<10 })
	for _, e := range r.denials() {
		if e.Rule != "builtin:memory-limit" {
			t.Errorf("event %+v", e)
		}
	}
	c := dialTo(t, r.explicit)
	resp, _ := ask(t, c, head[:20<<10]+"\r\n\r\n")
	if resp.StatusCode != 502 { // the name has no server on port 80
		t.Errorf("a long head afterwards: %v", resp)
	}
}

func TestMemoryComesBackAfterTraffic(t *testing.T) {
	r := newRig(t, allowing("ok.test"))
	body := bytes.Repeat([]byte("x"), 1<<20)
	r.outside("ok.test", 80, webServer(t, false, func(w http.ResponseWriter, q *http.Request) {
		io.Copy(io.Discard, q.Body)
		w.Write(body)
	}))
	r.outside("ok.test", 7000, serveTCP(t, echo))
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			c := throughProxy(t, r)
			for range 5 {
				resp, err := c.Post("http://ok.test/", "text/plain", io.MultiReader(bytes.NewReader(body)))
				if err != nil {
					t.Error(err)
					return
				}
				io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
			}
			d := dialTo(t, r.captureName("ok.test", 7000))
			go d.Write(body)
			io.ReadFull(d, make([]byte, len(body)))
			d.SetLinger(0)
			d.Close()
		})
	}
	wg.Wait()
	r.p.Close()
	want := r.p.cfg.Limits.Memory / 2
	if h, n := r.p.mem.heads.Load(), r.p.mem.buffers.Load(); h != int64(want) || n != int64(want/copyBuffer) {
		t.Errorf("left %d of %d bytes and %d of %d buffers", h, want, n, want/copyBuffer)
	}
}

// TestTenThousandIdleConnections: they cost little, and the others go on.
func TestTenThousandIdleConnections(t *testing.T) {
	if testing.Short() {
		t.Skip("10 000 connections take seconds: not with -short")
	}
	conns := 10000
	need := uint64(4*conns + 500)
	var lim syscall.Rlimit
	syscall.Getrlimit(syscall.RLIMIT_NOFILE, &lim)
	if lim.Cur < need {
		old := lim
		lim.Cur, lim.Max = need, max(need, lim.Max)
		if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &lim); err != nil {
			conns = int(old.Cur-500) / 4
			t.Logf("only %d descriptors: %d connections", old.Cur, conns)
		} else {
			t.Cleanup(func() { syscall.Setrlimit(syscall.RLIMIT_NOFILE, &old) })
		}
	}
	r := newRig(t, allowing("ok.test"), func(c *Config) { c.Limits.MaxConns = conns + 10 })
	r.outside("ok.test", 7000, serveTCP(t, func(c *net.TCPConn) { c.Read(make([]byte, 1)) }))
	r.outside("ok.test", 7001, serveTCP(t, echo))
	to := r.captureName("ok.test", 7000)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	open := make([]net.Conn, 0, conns)
	t.Cleanup(func() {
		for _, c := range open {
			c.Close()
		}
	})
	for i := range conns {
		c, err := net.Dial("tcp", to)
		if err != nil {
			t.Fatalf("connection %d: %v", i, err)
		}
		open = append(open, c)
	}
	eventually(t, "connections", func() bool { return r.p.Counters().OpenConns == int64(conns) })
	_, dialled := r.wentOutside()
	eventually(t, "upstreams", func() bool { _, dialled = r.wentOutside(); return len(dialled) == conns })
	runtime.GC()
	runtime.ReadMemStats(&after)
	// Client and server live in this process, too.
	per := int64(after.Sys-before.Sys) / int64(conns)
	t.Logf("%d KiB a connection with its client and server, %d goroutines", per>>10, runtime.NumGoroutine())
	if per > 64<<10 {
		t.Errorf("%d bytes a connection", per)
	}
	c := dialTo(t, r.captureName("ok.test", 7001))
	start := time.Now()
	io.WriteString(c, "x")
	if _, err := io.ReadFull(c, make([]byte, 1)); err != nil || time.Since(start) > 5*time.Second {
		t.Errorf("the others do not go on: %v after %s", err, time.Since(start))
	}
}

// TestLoadLeavesNothing mixes everything for a while; SALLYPORT_LOAD=10m makes
// the while long.
func TestLoadLeavesNothing(t *testing.T) {
	span := 2 * time.Second
	if s := os.Getenv("SALLYPORT_LOAD"); s != "" {
		var err error
		if span, err = time.ParseDuration(s); err != nil {
			t.Fatal(err)
		}
	}
	r := newRig(t, allowing("ok.test"), func(c *Config) {
		c.Limits.AllowQuiet = 50 * time.Millisecond
		c.Limits.HelloTimeout = 200 * time.Millisecond
		c.Limits.HeadTimeout = 200 * time.Millisecond
	})
	r.p.cfg.Emit = func(event.Event) {} // the rig would keep them all
	r.p.goTracked(nil, r.p.flushLoop)
	r.outside("ok.test", 80, webServer(t, false, func(w http.ResponseWriter, q *http.Request) { io.Copy(w, q.Body) }))
	r.outside("ok.test", 443, webServer(t, true, func(w http.ResponseWriter, q *http.Request) {}))
	r.outside("ok.test", 7000, serveTCP(t, echo))
	mix := loadMix(t, r)

	round := func(d time.Duration) {
		var wg sync.WaitGroup
		end := time.Now().Add(d)
		for i := range 24 {
			wg.Go(func() {
				for n := i; time.Now().Before(end); n++ {
					mix[n%len(mix)]()
				}
			})
		}
		wg.Wait()
		eventually(t, "end of connections", func() bool { return r.p.Counters().OpenConns == 0 })
		r.mu.Lock()
		r.dialled, r.resolved = nil, nil
		r.mu.Unlock()
	}
	round(span / 4) // warm
	before := resources()
	round(span)
	eventually(t, "return to "+before.String(), func() bool { return resources().within(before) })
	n := r.p.Counters()
	t.Logf("%d connections, %d requests, %d denied for their name; before %s, after %s",
		n.Conns, n.Requests, n.Denied[event.NotAllowed], before, resources())
	if n.Panics != 0 || n.Conns == 0 || n.Requests == 0 {
		t.Errorf("counters %+v", n)
	}
}
