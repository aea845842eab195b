package e2e

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

func init() {
	attacks["sendto"] = func(a []string) error { return sendOddly(atoi(a[0]), a[1], netip.MustParseAddrPort(a[2])) }
	attacks["hdrincl"] = func(a []string) error { return ownHead(netip.MustParseAddr(a[0])) }
	attacks["vmwrite"] = func(a []string) error { return writeMemory(processOf(a[0])) }
	attacks["getfd"] = func(a []string) error { return takeDescriptor(processOf(a[0])) }
	attacks["pair"] = func(a []string) error { _, err := unix.Socketpair(unix.AF_UNIX, atoi(a[0]), 0); return err }
	attacks["inherited"] = func([]string) error { return inherited() }
	attacks["takefd"] = func(a []string) error { return takeHanded(a[0]) }
	attacks["docker"] = func(a []string) error { return startContainer(a[0]) }
	attacks["sshagent"] = func(a []string) error { return askAgent(a[0]) }
	attacks["dbus"] = func(a []string) error { return joinBus(a[0]) }
	attacks["listen"] = func([]string) error { return listenUnbound() }
	attempts["fastopenconnect"] = tryFastOpenConnect
	attempts["mapped"] = tryMapped
	attempts["boundconnect"] = tryBound
	attempts["ipoptions"] = tryIPOptions
	attempts["second"] = trySecond
	attempts["relay"] = tryRelay
	attempts["tlsodd"] = tryOddTLS
	attempts["systemdrun"] = trySystemdRun
}

// trySystemdRun has the user's service manager touch a file.
func trySystemdRun(args []string) error {
	cmd := exec.Command("systemd-run", "--user", "--wait", "--quiet", "touch", args[0])
	cmd.Env = append(os.Environ(), fmt.Sprintf("XDG_RUNTIME_DIR=/run/user/%d", os.Getuid()))
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("systemd-run --user: %w", err)
	}
	return nil
}

// processOf reads a number, or "self".
func processOf(s string) int {
	if s == "self" {
		return os.Getpid()
	}
	return atoi(s)
}

func unwrapped(err error) error {
	var errno unix.Errno
	if errors.As(err, &errno) {
		return errno
	}
	return err
}

// sendOddly sends a datagram from a socket of one family to an address of another.
func sendOddly(family int, as string, to netip.AddrPort) error {
	fd, err := unix.Socket(family, unix.SOCK_DGRAM, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	v4 := &unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()}
	switch as {
	case "mapped":
		return unix.Sendto(fd, []byte("hello"), 0, &unix.SockaddrInet6{Port: int(to.Port()), Addr: netip.AddrFrom16(to.Addr().As16()).As16()})
	case "inet":
		return unix.Sendto(fd, []byte("hello"), 0, v4)
	case "connected":
		if err := unix.Connect(fd, v4); err != nil {
			return err
		}
		_, err := unix.Write(fd, []byte("hello"))
		return err
	}
	addr := rawAddr(to.String()) // unspec
	addr[0] = unix.AF_UNSPEC
	b := []byte("hello")
	_, _, errno := unix.Syscall6(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)), 0, uintptr(unsafe.Pointer(&addr[0])), uintptr(len(addr)))
	return known(errno)
}

// ownHead sends a packet whose head it has written itself (raw(7)).
func ownHead(to netip.Addr) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_RAW)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_HDRINCL, 1); err != nil {
		return err
	}
	head := make([]byte, 20)
	head[0], head[3], head[8], head[9] = 0x45, 20, 64, 253 // a protocol for experiments (RFC 3692)
	v4 := to.As4()
	copy(head[16:], v4[:])
	return unix.Sendto(fd, head, 0, &unix.SockaddrInet4{Addr: v4})
}

func writeMemory(pid int) error {
	word := [8]byte{}
	b := make([]byte, 8)
	local := []unix.Iovec{{Base: &b[0], Len: 8}}
	_, err := unix.ProcessVMWritev(pid, local, []unix.RemoteIovec{{Base: uintptr(unsafe.Pointer(&word)), Len: 8}}, 0)
	return err
}

func takeDescriptor(pid int) error {
	pidfd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return err
	}
	_, err = unix.PidfdGetfd(pidfd, 1, 0)
	return err
}

// inherited looks for a connected socket among what was open at the start.
func inherited() error {
	for fd := range 20 {
		if _, err := unix.Getpeername(fd + 3); err == nil {
			return nil
		}
	}
	return unix.EBADF
}

// takeHanded takes a descriptor from a server and sends something through it.
func takeHanded(path string) error {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.Connect(fd, &unix.SockaddrUnix{Name: path}); err != nil {
		return err
	}
	oob := make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := unix.Recvmsg(fd, make([]byte, 1), oob, 0)
	if err != nil {
		return err
	}
	messages, err := unix.ParseSocketControlMessage(oob[:n])
	if err != nil || len(messages) == 0 {
		return fmt.Errorf("nothing was handed over: %v", err)
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil {
		return err
	}
	_, err = unix.Write(fds[0], []byte("hello"))
	return err
}

// startContainer asks Docker's daemon for one.
func startContainer(path string) error {
	dialSocket := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", path)
	}
	client := http.Client{Timeout: patience, Transport: &http.Transport{DialContext: dialSocket}}
	resp, err := client.Post("http://docker/v1.41/containers/create", "application/json", strings.NewReader(`{"Image":"x","HostConfig":{"Binds":["/:/host"]}}`))
	if err != nil {
		return unwrapped(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusCreated {
		return errors.New(resp.Status)
	}
	return nil
}

// askAgent asks for the list of keys (draft-miller-ssh-agent, 4.4).
func askAgent(path string) error {
	c, err := net.Dial("unix", path)
	if err != nil {
		return unwrapped(err)
	}
	defer c.Close()
	if _, err := c.Write([]byte{0, 0, 0, 1, 11}); err != nil {
		return err
	}
	var answer [5]byte
	if _, err := io.ReadFull(c, answer[:]); err != nil || answer[4] != 12 {
		return fmt.Errorf("answer %x: %v", answer, err)
	}
	return nil
}

// joinBus says who it is, as D-Bus wants it first.
func joinBus(path string) error {
	c, err := net.Dial("unix", path)
	if err != nil {
		return unwrapped(err)
	}
	defer c.Close()
	fmt.Fprintf(c, "\x00AUTH EXTERNAL %s\r\n", hex.EncodeToString([]byte(strconv.Itoa(os.Getuid()))))
	if line, err := bufio.NewReader(c).ReadString('\n'); !strings.HasPrefix(line, "OK ") {
		return fmt.Errorf("the bus says %q: %v", line, err)
	}
	return nil
}

// listenUnbound listens on a port that the kernel chooses, and leaves it to the
// one outside to come: it says which, as if it were an error.
func listenUnbound() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	if err == nil {
		err = unix.Listen(fd, 1)
	}
	if err != nil {
		return err
	}
	at, err := unix.Getsockname(fd)
	if err != nil {
		return err
	}
	return fmt.Errorf("port %d", at.(*unix.SockaddrInet4).Port)
}

func tryFastOpenConnect(args []string) error {
	return connectWith(args[0], func(fd int) error {
		return unix.SetsockoptInt(fd, unix.SOL_TCP, unix.TCP_FASTOPEN_CONNECT, 1)
	})
}

// connectWith connects a TCP socket that something was done to.
func connectWith(addr string, prepare func(fd int) error) error {
	family, to := sockaddr(netip.MustParseAddrPort(addr))
	fd, err := unix.Socket(family, unix.SOCK_STREAM, 0)
	if err != nil {
		return err
	}
	if err := prepare(fd); err != nil {
		return err
	}
	if err := unix.Connect(fd, to); err != nil {
		return err
	}
	return talk(fd)
}

// tryMapped connects an IPv6 socket to an IPv4 address.
func tryMapped(args []string) error {
	a := netip.MustParseAddrPort(args[0])
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_STREAM, 0)
	if err != nil {
		return err
	}
	if err := unix.Connect(fd, &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16()}); err != nil {
		return err
	}
	return talk(fd)
}

// tryBound connects from a port below 1024's neighbours, chosen by itself.
func tryBound(args []string) error {
	return connectWith(args[0], func(fd int) error {
		return unix.Bind(fd, &unix.SockaddrInet4{Port: 20022})
	})
}

// tryIPOptions connects to ADDR with the options that its bytes are (RFC 791, 3.1).
func tryIPOptions(args []string) error {
	var options []byte
	for _, b := range args[1:] {
		options = append(options, byte(atoi(b)))
	}
	family, to := sockaddr(netip.MustParseAddrPort(args[0]))
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return err
	}
	if err := unix.SetsockoptString(fd, unix.SOL_IP, unix.IP_OPTIONS, string(options)); err != nil {
		return fmt.Errorf("set IP options: %w", err)
	}
	// An answer to its first packet is no error yet: it would go on for minutes.
	if err := unix.Connect(fd, to); err != unix.EINPROGRESS {
		return err
	}
	_, _ = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}, 5000)
	if _, err := unix.Getpeername(fd); err != nil {
		unix.Close(fd)
		return err
	}
	return talk(fd)
}

// trySecond sends BYTES to the proxy, two requests, and wants the second served.
func trySecond(args []string) error {
	c, err := dialProxy()
	if err != nil {
		return err
	}
	defer c.Close()
	if _, err := io.WriteString(c, unquote(args[0])); err != nil {
		return err
	}
	in := bufio.NewReader(c)
	for i := range 2 {
		resp, err := http.ReadResponse(in, nil)
		if err != nil {
			return fmt.Errorf("answer %d: %w", i+1, err)
		}
		if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != http.StatusOK {
			return fmt.Errorf("answer %d: %s, %v", i+1, resp.Status, err)
		}
	}
	return nil
}

// tryRelay reaches ADDR through a relay of its own.
func tryRelay(args []string) error {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return err
	}
	go func() {
		near, err := l.Accept()
		if err != nil {
			return
		}
		defer near.Close()
		far, err := dial("tcp", args[0])
		if err != nil {
			return
		}
		defer far.Close()
		go func() { _, _ = io.Copy(far, near) }()
		_, _ = io.Copy(near, far)
	}()
	return tryTCP([]string{l.Addr().String()})
}

// tryOddTLS shakes hands with ADDR for SNI in HOW a way that hides the name from
// one who reads a single record, or 4 KiB.
func tryOddTLS(args []string) error {
	c, err := dial("tcp", args[0])
	if err != nil {
		return err
	}
	defer c.Close()
	config := &tls.Config{ServerName: args[1], InsecureSkipVerify: true}
	if args[2] == "long" {
		for i := range 40 {
			config.NextProtos = append(config.NextProtos, strings.Repeat("x", 200)+strconv.Itoa(i))
		}
	} else {
		c = &cutting{Conn: c}
	}
	return tls.Client(c, config).Handshake()
}

// cutting cuts the first TLS record into records of 7 bytes (RFC 8446, 5.1), each
// in a write of its own.
type cutting struct {
	net.Conn
	done bool
}

func (c *cutting) Write(b []byte) (int, error) {
	if c.done || len(b) < 5 {
		return c.Conn.Write(b)
	}
	c.done = true
	for rest := b[5:]; len(rest) > 0; {
		n := min(7, len(rest))
		record := append([]byte{b[0], b[1], b[2], 0, byte(n)}, rest[:n]...)
		if _, err := c.Conn.Write(record); err != nil {
			return 0, err
		}
		rest = rest[n:]
		time.Sleep(time.Millisecond)
	}
	return len(b), nil
}
