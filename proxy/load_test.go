package proxy

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// loadMix is what a busy and unfriendly sandbox does.
func loadMix(t *testing.T, r *rig) []func() {
	raw, web, secure := r.captureName("ok.test", 7000), r.captureName("ok.test", 80), r.captureName("ok.test", 443)
	evil, literal := r.captureName("evil.test", 443), r.capture("9.9.9.9:80")
	big := bytes.Repeat([]byte("x"), 256<<10)
	with := func(to string, f func(c *net.TCPConn)) func() {
		return func() {
			c, err := net.Dial("tcp", to)
			if err != nil {
				return // reset while it connected
			}
			defer c.Close()
			c.SetDeadline(time.Now().Add(5 * time.Second))
			c.(*net.TCPConn).SetLinger(0) // else TIME_WAIT eats the ports
			f(c.(*net.TCPConn))
		}
	}
	say := func(s string) func(*net.TCPConn) {
		return func(c *net.TCPConn) {
			io.WriteString(c, s)
			io.Copy(io.Discard, c)
		}
	}
	return []func(){
		with(raw, func(c *net.TCPConn) {
			go c.Write(big)
			io.ReadFull(c, make([]byte, len(big)))
		}),
		with(raw, func(c *net.TCPConn) { io.WriteString(c, "gone") }),
		with(secure, func(c *net.TCPConn) { tlsOver(c, "ok.test").Handshake() }),
		with(secure, func(c *net.TCPConn) { tlsOver(c, "evil.test").Handshake() }),
		with(secure, func(c *net.TCPConn) { c.Write([]byte{22, 3, 1}) }),
		with(secure, say("\x16\x03\x01\x02")), // slow: ends by the time-out
		with(web, say("GET / HTTP/1.1\r\nHost: ok.test\r\nConnection: close\r\n\r\n")),
		with(web, say("POST / HTTP/1.1\r\nHost: ok.test\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\n0\r\n\r\n")),
		with(web, func(c *net.TCPConn) {
			io.WriteString(c, "POST / HTTP/1.1\r\nHost: ok.test\r\nContent-Length: 9999\r\n\r\nx")
		}),
		with(web, say("GET / HTTP/1.1\r\nHost: evil.test\r\n\r\n")),
		with(web, say("GET / HT")),
		with(r.explicit, say("GET http://ok.test/ HTTP/1.0\r\n\r\n")),
		with(r.explicit, say("CONNECT evil.test:443 HTTP/1.1\r\nHost: evil.test\r\n\r\n")),
		with(r.explicit, say("\x05\x01\x00\x05\x01\x00\x03\x07ok.test\x1b\x59")),
		with(r.explicit, say("\x05\x01\x00\x05\x01\x00\x03\x09evil.test\x00\x50")),
		with(evil, func(c *net.TCPConn) { tlsOver(c, "evil.test").Handshake() }),
		with(literal, say("GET / HTTP/1.1\r\nHost: x\r\n\r\n")),
		func() {
			q := query(t, "evil.test.", dnsmessage.TypeA, dnsmessage.ClassINET)
			for range 10 {
				r.p.answerDNS(q, dnsClient)
			}
		},
	}
}

// usage is what a process holds.
type usage struct {
	goroutines, fds int
	heap            uint64
}

func (u usage) String() string {
	return fmt.Sprintf("%d goroutines, %d descriptors, %d KiB of heap", u.goroutines, u.fds, u.heap>>10)
}

// within reports whether u is no more than before, give or take what a runtime
// keeps in pools.
func (u usage) within(before usage) bool {
	return u.goroutines <= before.goroutines+8 && u.fds <= before.fds+16 && u.heap <= before.heap+4<<20
}

func resources() usage {
	runtime.GC()
	runtime.GC() // twice, so that pools are empty and their pipes closed
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	fds, _ := os.ReadDir("/proc/self/fd")
	return usage{runtime.NumGoroutine(), len(fds), m.HeapAlloc}
}
