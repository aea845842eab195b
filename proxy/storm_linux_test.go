package proxy

import (
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// accounted gives how many connections were accepted and how many of them ended
// as an event, of whatever kind.
func (r *rig) accounted() (accepted, told uint64) {
	n := r.p.Counters()
	for _, denied := range n.Denied {
		told += denied
	}
	return n.Conns, told + n.Allowed
}

func TestEveryConnectionOfAStormIsAccountedFor(t *testing.T) {
	r := newRig(t, allowing("ok.test"), func(c *Config) {
		c.Limits.HelloTimeout, c.Limits.HeadTimeout, c.Limits.KeepAlive = 300*time.Millisecond, 300*time.Millisecond, 300*time.Millisecond
		c.Limits.Idle, c.Limits.DialTimeout = 500*time.Millisecond, 300*time.Millisecond
	})
	r.outside("ok.test", 443, serveTCP(t, echo))
	r.outside("ok.test", 80, serveTCP(t, func(c *net.TCPConn) { // resets in the middle of a request
		c.Read(make([]byte, 4))
		c.SetLinger(0)
	}))
	r.outside("ok.test", 7000, serveTCP(t, func(c *net.TCPConn) { io.Copy(io.Discard, c); time.Sleep(50 * time.Millisecond) })) // stalls
	r.outside("ok.test", 7001, serveTCP(t, func(c *net.TCPConn) { c.SetLinger(0) }))
	// On ok.test port 7002 nobody listens.
	var to []string
	for _, port := range []uint16{443, 80, 7000, 7001, 7002} {
		to = append(to, r.captureName("ok.test", port), r.captureName("evil.test", port))
	}
	words := []string{"", "\x16\x03\x01", "GET / HTTP/1.1\r\nHost: ok.test\r\n\r\n", "GET / HT", "SSH-2.0-x\r\n", "\x00"}
	ends := []func(*net.TCPConn){
		func(c *net.TCPConn) { c.SetLinger(0) },                        // RST
		func(*net.TCPConn) {},                                          // FIN
		func(c *net.TCPConn) { c.CloseWrite(); io.ReadAll(c) },         // half-open
		func(c *net.TCPConn) { time.Sleep(20 * time.Millisecond) },     // slow
		func(c *net.TCPConn) { io.WriteString(c, "x"); io.ReadAll(c) }, // waits for the end
	}
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for k := range len(to) * len(words) * len(ends) / 8 {
				n := i + 8*k
				c, err := net.Dial("tcp", to[n%len(to)])
				if err != nil {
					continue
				}
				c.SetDeadline(time.Now().Add(20 * time.Second))
				io.WriteString(c, words[n/len(to)%len(words)])
				ends[n/len(to)/len(words)%len(ends)](c.(*net.TCPConn))
				c.Close()
			}
		})
	}
	wg.Wait()
	eventually(t, "end of connections", func() bool { return r.p.Counters().OpenConns == 0 })
	if accepted, told := r.accounted(); accepted != told || accepted < 250 {
		t.Errorf("%d connections accepted, %d accounted for: %+v", accepted, told, r.p.Counters())
	}
	if n := r.p.Counters(); n.Panics != 0 {
		t.Errorf("%d panics", n.Panics)
	}
}

// TestWithoutDescriptorsTheOthersGoOn takes them from a proxy that is running.
func TestWithoutDescriptorsTheOthersGoOn(t *testing.T) {
	m := measure(t, "proxy", serveTCP(t, echo))
	defer m.end()
	works := func(c net.Conn) bool {
		c.SetDeadline(time.Now().Add(20 * time.Second))
		io.WriteString(c, "x")
		_, err := io.ReadFull(c, make([]byte, 1))
		return err == nil
	}
	first := dialTo(t, m.addr)
	if !works(first) {
		t.Fatal("the first")
	}
	// Only now: at its start it would lower its own limit of connections.
	lim := unix.Rlimit{Cur: 40, Max: 40}
	if err := unix.Prlimit(m.cmd.Process.Pid, unix.RLIMIT_NOFILE, &lim, nil); err != nil {
		t.Fatal(err)
	}
	var open []net.Conn
	reset, served := 0, 0
	for range 100 {
		c, err := net.Dial("tcp", m.addr)
		if errors.Is(err, unix.ECONNRESET) { // before Dial has looked at it
			reset++
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, c)
	}
	for i := range 5 {
		if !works(first) {
			t.Fatalf("%d: a connection that was there suffers", i)
		}
	}
	for _, c := range open {
		c.SetDeadline(time.Now().Add(10 * time.Millisecond))
		io.WriteString(c, "x")
		if _, err := io.ReadFull(c, make([]byte, 1)); err == nil {
			served++
		} else {
			reset++
		}
	}
	if served >= 40 || reset == 0 {
		t.Errorf("%d served, %d not, with 40 descriptors", served, reset)
	}
	for _, c := range open {
		c.(*net.TCPConn).SetLinger(0)
		c.Close()
	}
	eventually(t, "a new connection", func() bool {
		c, err := net.Dial("tcp", m.addr)
		if err != nil {
			return false
		}
		defer c.Close()
		return works(c)
	})
	if !works(first) {
		t.Error("the first connection has ended")
	}
}
