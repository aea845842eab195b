package e2e

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/internal/event"
)

// dialer makes one connection from a port that others use, too, or starts many
// processes that do.
func dialer() {
	if os.Args[1] == "all" {
		var wg sync.WaitGroup
		port := 20000
		for _, how := range []string{"plain", "mptcp", "fastopen", "v6"} {
			for range 12 {
				port++
				port := port
				wg.Go(func() {
					c := exec.Command("/proc/self/exe", how, strconv.Itoa(port))
					c.Env = []string{helperEnv + "=dialer"}
					if out, err := c.CombinedOutput(); err != nil {
						fmt.Printf("%s %d: %v %s\n", how, port, err, out)
					}
				})
				if how == "fastopen" {
					wg.Wait()
				}
			}
		}
		wg.Wait()
		return
	}
	how, port := os.Args[1], atoi(os.Args[2])
	family, protocol := unix.AF_INET, 0
	var from, to unix.Sockaddr = &unix.SockaddrInet4{Port: 7777}, &unix.SockaddrInet4{Port: port, Addr: netip.MustParseAddr(thereV4).As4()}
	if how == "v6" {
		family = unix.AF_INET6
		from, to = &unix.SockaddrInet6{Port: 7777}, &unix.SockaddrInet6{Port: port, Addr: netip.MustParseAddr(thereV6).As16()}
	}
	if how == "mptcp" {
		protocol = 262
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM, protocol)
	if err != nil && how == "mptcp" {
		fd, err = unix.Socket(family, unix.SOCK_STREAM, 0) // not in this kernel
	}
	if err == nil {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
		err = unix.Bind(fd, from)
	}
	if err == nil && how == "fastopen" {
		err = unix.Sendto(fd, []byte("GET / HTTP/1.1\r\n\r\n"), unix.MSG_FASTOPEN, to)
	} else if err == nil {
		err = unix.Connect(fd, to)
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	_, _ = unix.Read(fd, make([]byte, 1)) // until it is refused
}

func TestEveryConnectionHasTheProcessThatMadeIt(t *testing.T) {
	h := traceHome(t)
	r := h.traced(nil, "dialer", "all").ok()
	if r.out != "" {
		t.Fatalf("dialers say\n%s", r.out)
	}
	seen := map[uint16]int{}
	for _, e := range r.events {
		if e.Operation != event.NetConnect {
			continue
		}
		seen[e.Object.Port] += int(e.Count)
		p := e.Process
		if p == nil || len(p.Argv) != 3 || string(p.Argv[2]) != fmt.Sprint(e.Object.Port) || string(p.Exe) != h.helperPath() {
			t.Errorf("%s", describe([]event.Event{e}))
			continue
		}
		if n := len(e.Ancestors); n == 0 || !strings.HasSuffix(fmt.Sprint(e.Ancestors[0].Argv), "all]") {
			t.Errorf("ancestors of the one to port %d: %+v", e.Object.Port, e.Ancestors)
		}
	}
	for port := uint16(20001); port <= 20048; port++ {
		if seen[port] != 1 {
			t.Errorf("port %d: %d events", port, seen[port])
		}
	}
}

func TestWhoAsksAResolverIsKnown(t *testing.T) {
	h := traceHome(t)
	script := `import socket,sys
try: socket.getaddrinfo(sys.argv[1], 80)
except OSError: pass
`
	r := h.runWith(nil, "sh", "-c", `for i in 1 2 3 4; do python3 -S -c "$1" host$i.test & done; wait; RES_OPTIONS=use-vc python3 -S -c "$1" tcp.test`, "sh", script).ok()
	seen := map[string]bool{}
	for _, e := range r.events {
		if e.Operation != event.NetDNS {
			continue
		}
		name := string(e.Object.Host)
		seen[name] = true
		if p := e.Process; p == nil || len(p.Argv) < 1 || string(p.Argv[len(p.Argv)-1]) != name {
			t.Errorf("%s", describe([]event.Event{e}))
		}
	}
	for _, name := range []string{"host1.test", "host2.test", "host3.test", "host4.test", "tcp.test"} {
		if !seen[name] {
			t.Errorf("no event about %s\n%s", name, describe(r.events))
		}
	}
}
