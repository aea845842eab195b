package loader

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/internal/event"
	"github.com/sallyport/sallyport/testvm"
)

// accepted is a connection as a server saw it, and who says to have made it.
type accepted struct {
	UDP      bool
	From, To netip.AddrPort
	PID      int
}

func init() {
	payloads["serve"] = serve
	payloads["dial"] = dial
}

// ownNet runs the rest of the command in a network namespace of its own. An IPv6
// address works a while after it is there.
const ownNet = `ip link set lo up && ip addr add 198.18.0.1/32 dev lo && ip addr add 198.18.0.2/32 dev lo &&
ip -6 addr add fd5a::1/128 dev lo nodad && until ip -6 route get fd5a::1 >/dev/null 2>&1; do sleep 0.01; done; exec "$@"`

// serve answers connections that its children make, and prints them.
func serve([]string) int {
	out := json.NewEncoder(os.Stdout)
	for _, c := range []struct{ network, listen, how string }{
		{"tcp4", "198.18.0.1:443", "plain"}, {"tcp6", "[fd5a::1]:443", "plain"}, {"tcp4", "198.18.0.1:443", "mapped"},
		{"tcp4", "198.18.0.1:443", "mptcp"}, {"tcp4", "198.18.0.1:444", "port 7777"}, {"tcp4", "198.18.0.2:445", "port 7777"},
		{"tcp4", "127.0.0.1:53", "plain"}, {"tcp4", "198.18.0.1:446", "fastopen"},
	} {
		ln := must(net.Listen(c.network, c.listen))
		cmd := exec.Command("/proc/self/exe", c.how, c.listen)
		cmd.Env, cmd.Stderr = append(os.Environ(), "LOADER_PAYLOAD=dial"), os.Stderr
		must(0, cmd.Start())
		patience := time.AfterFunc(time.Minute, func() { ln.Close() }) // a child that died says why
		conn := must(ln.Accept())
		patience.Stop()
		line, _ := bufio.NewReader(conn).ReadString('\n')
		pid, _ := strconv.Atoi(strings.TrimSpace(line))
		out.Encode(accepted{PID: pid, From: conn.RemoteAddr().(*net.TCPAddr).AddrPort(), To: conn.LocalAddr().(*net.TCPAddr).AddrPort()})
		conn.Close()
		must(0, cmd.Wait())
		ln.Close()
	}
	return serveUDP(out)
}

func serveUDP(out *json.Encoder) int {
	for _, listen := range []string{"198.18.0.1:53", "[fd5a::1]:53", "127.0.0.53:53"} {
		ln := must(net.ListenPacket("udp", listen))
		for _, how := range []string{"udp connected", "udp sent"} {
			cmd := exec.Command("/proc/self/exe", how, listen)
			cmd.Env, cmd.Stderr = append(os.Environ(), "LOADER_PAYLOAD=dial"), os.Stderr
			must(0, cmd.Start())
			must(0, ln.SetReadDeadline(time.Now().Add(time.Minute)))
			b := make([]byte, 100)
			n, from, err := ln.ReadFrom(b)
			must(n, err)
			pid, _ := strconv.Atoi(strings.TrimSpace(string(b[:n])))
			out.Encode(accepted{UDP: true, PID: pid, From: from.(*net.UDPAddr).AddrPort()})
			must(0, cmd.Wait())
		}
		ln.Close()
	}
	return 0
}

// dial makes one connection and says its own pid over it.
func dial(args []string) int {
	how, to := args[0], netip.MustParseAddrPort(args[1])
	family, kind, protocol := unix.AF_INET6, unix.SOCK_STREAM, 0
	if to.Addr().Is4() && how != "mapped" {
		family = unix.AF_INET
	}
	if how == "mptcp" {
		protocol = 262
	}
	if strings.HasPrefix(how, "udp") {
		kind = unix.SOCK_DGRAM
	}
	fd, err := unix.Socket(family, kind, protocol)
	if how == "mptcp" && err != nil {
		fd, err = unix.Socket(family, kind, 0) // not in this kernel
	}
	must(fd, err)
	var addr unix.Sockaddr = &unix.SockaddrInet6{Port: int(to.Port()), Addr: to.Addr().As16()}
	if family == unix.AF_INET {
		addr = &unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()}
	}
	if p, ok := strings.CutPrefix(how, "port "); ok {
		must(0, unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1))
		must(0, unix.Bind(fd, &unix.SockaddrInet4{Port: must(strconv.Atoi(p))}))
	}
	me := fmt.Appendf(nil, "%d\n", unix.Getpid())
	switch how {
	case "udp sent":
		must(0, connectSoon(must(unix.Socket(family, kind, 0)), addr)) // there is a way by now
		must(0, unix.Sendto(fd, me, 0, addr))
		return 0
	case "fastopen":
		must(0, unix.Sendto(fd, me, unix.MSG_FASTOPEN, addr))
	default:
		must(0, connectSoon(fd, addr))
		must(unix.Write(fd, me))
	}
	if kind == unix.SOCK_DGRAM {
		return 0
	}
	_, _ = io.ReadAll(os.NewFile(uintptr(fd), "connection"))
	return 0
}

// connectSoon: the address that the namespace was just given works a while after
// it is there, as other processors learn of it.
func connectSoon(fd int, to unix.Sockaddr) error {
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		err := unix.Connect(fd, to)
		if err != unix.ENETUNREACH && err != unix.EADDRNOTAVAIL || time.Now().After(end) {
			return err
		}
	}
}

func TestTheProcessBehindEveryConnectionIsFound(t *testing.T) {
	w := sharedWorld(t)
	b := w.add(everything)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := b.command("unshare", "--net", "sh", "-c", ownNet, "sh", self)
	cmd.Env = append(os.Environ(), "LOADER_PAYLOAD=serve")
	var out bytes.Buffer
	cmd.Stdout = &out
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	n := 0
	for dec := json.NewDecoder(&out); dec.More(); n++ {
		var a accepted
		if err := dec.Decode(&a); err != nil {
			t.Fatal(err)
		}
		checkConnection(t, w.l, b.Info.ID, cmd.Process.Pid, a)
	}
	if n != 14 {
		t.Errorf("%d connections, want 14", n)
	}
	for _, r := range b.records() {
		if r.Event.Layer == event.LayerCgroup {
			t.Errorf("refused: %+v", r.Event.Object)
		}
	}
}

func checkConnection(t *testing.T, l *Loader, sandbox uint64, server int, a accepted) {
	t.Helper()
	c := Connection{UDP: a.UDP, From: a.From, To: a.To}
	p, ancestors := l.ProcessOf(sandbox, c)
	if p == nil {
		t.Errorf("%+v: nobody", a)
		return
	}
	if p.PID != a.PID || len(p.Argv) != 3 || len(ancestors) == 0 || ancestors[0].PID != server {
		t.Errorf("%+v: %+v, ancestors %+v", a, p, ancestors)
	}
	if p, _ := l.ProcessOf(sandbox+1, c); p != nil {
		t.Errorf("%+v: found in another sandbox", a)
	}
}

func TestAnAttemptThatACgroupProgramRefusesIsOneEvent(t *testing.T) {
	w := sharedWorld(t)
	for _, tt := range []struct {
		name, script string
		rules        Rules
		want         event.Operation
	}{
		{"datagram by connect", `s(AF_INET, SOCK_DGRAM).connect(("192.0.2.1", 99))`, everything, event.NetUDP},
		{"datagram by sendto", `s(AF_INET, SOCK_DGRAM).sendto(b"x", ("192.0.2.1", 99))`, everything, event.NetUDP},
		{"mapped datagram", `s(AF_INET6, SOCK_DGRAM).sendto(b"x", ("::ffff:192.0.2.1", 99))`, everything, event.NetUDP},
		{"IPv6 datagram", `s(AF_INET6, SOCK_DGRAM).sendto(b"x", ("2001:db8::1", 99))`, everything, event.NetUDP},
		{"multicast DNS port", `s(AF_INET, SOCK_DGRAM).sendto(b"x", ("224.0.0.251", 53))`, everything, event.NetUDP},
		{"raw socket", `s(AF_INET, SOCK_RAW, 1)`, everything, event.NetRaw},
		{"UDP-Lite", `s(AF_INET, SOCK_DGRAM, 136)`, everything, event.NetSocket},
		{"TCP that no rule allows", `s(AF_INET, SOCK_STREAM)`, Rules{}, event.NetSocket},
		{"source route", `s(AF_INET, SOCK_STREAM).setsockopt(0, 4, b"\x01\x01\x01\x01")`, everything, event.NetSocket},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := w.add(tt.rules)
			script := "from socket import *\ns = socket\ntry: " + tt.script + "\nexcept PermissionError: print('refused')\nexcept OSError as e: print('absent' if e.errno == 93 else e)\n"
			out, err := b.command("python3", "-S", "-c", script).Output()
			if err != nil {
				t.Fatal(err)
			}
			if string(out) == "absent\n" {
				t.Skip("the kernel has no such protocol") // EPROTONOSUPPORT
			}
			if string(out) != "refused\n" {
				t.Fatalf("python says %q", out)
			}
			list := b.records()
			if len(list) != 1 || list[0].Event.Operation != tt.want || list[0].Event.Count != 1 || list[0].Event.Layer != event.LayerCgroup {
				t.Errorf("records %+v, want one of %v", list, tt.want)
			}
		})
	}
}

func TestACgroupThatIsNoSandboxGetsNoSocket(t *testing.T) {
	w := newWorld(t, Options{})
	b := w.add(everything)
	if err := w.l.RemoveSandbox(b.Info.ID); err != nil {
		t.Fatal(err)
	}
	cmd := b.command("python3", "-S", "-c", "import socket; socket.socket()")
	cmd.Stderr = nil
	out, err := cmd.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "Operation not permitted") {
		t.Errorf("python: %v, %s", err, out)
	}
	c, err := w.l.Counters()
	if err != nil || c.Unregistered == 0 {
		t.Errorf("counters %+v, %v", c, err)
	}
}

func TestUnixSocketsAreReachedByNameOnly(t *testing.T) {
	testvm.Require(t, testvm.CgroupUnix)
	w := sharedWorld(t)
	d := scratchDir(t)
	must(0, os.Mkdir(d+"/own", 0o755))
	must(0, os.Symlink(d, d+"/own/up"))
	long := func(n int) string { return d + "/own/" + strings.Repeat("x", n-len(d)-5) }
	b := w.add(Rules{UnixDirs: []string{d + "/own"}, UnixSockets: []string{d + "/listed"}})
	for _, tt := range []struct {
		name, path string
		allowed    bool
	}{
		{"in a folder of its own", d + "/own/s", true},
		{"listed", d + "/listed", true},
		{"listed with more", d + "/listed2", false},
		{"not listed", d + "/other", false},
		{"beside a folder of its own", d + "/own2", false},
		{"up and out", d + "/own/../other", false},
		{"up at the end but two", long(102) + "/../x", false},
		{"up at the end but one", long(103) + "/..", false},
		{"up at the end", long(104) + "/..", false},
		{"relative", "other", false},
		{"abstract", "\x00sallyport-test", true},
		{"the host's bus", "/run/dbus/system_bus_socket", false},
	} {
		for _, kind := range []string{"SOCK_STREAM", "SOCK_DGRAM"} {
			t.Run(tt.name+" "+kind, func(t *testing.T) {
				do := "s.connect(p)"
				if kind == "SOCK_DGRAM" {
					do = "s.sendto(b'x', p)"
				}
				script := fmt.Sprintf("from socket import *\nimport sys\ns = socket(AF_UNIX, %s)\np = bytes.fromhex('%x')\ntry: %s\nexcept OSError as e: print(e.errno)", kind, tt.path, do)
				out, err := b.command("python3", "-S", "-c", script).Output()
				if err != nil {
					t.Fatal(err)
				}
				refused := strings.TrimSpace(string(out)) == strconv.Itoa(int(syscall.EPERM))
				if refused == tt.allowed {
					t.Errorf("errno %s", out)
				}
			})
		}
	}
	for _, r := range b.records() {
		if r.Event.Operation != event.UnixConnect || r.Event.Object.Path == "" || r.Event.Count > 2 {
			t.Errorf("record %+v", r.Event)
		}
	}
	if n := len(b.records()); n != 18 {
		t.Errorf("%d records, want 18", n)
	}
}
