package e2e

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/sys/unix"
)

// attempts are what the helper can try, by name. An error means that the
// attempt was refused, and is printed.
var attempts = map[string]func(args []string) error{
	"get": tryGet, "tcp": tryTCP, "tls": tryTLS, "mptcp": tryMPTCP, "fastopen": tryFastOpen,
	"udp": tryUDP, "ping": tryPing, "dns": tryDNS, "proxy": tryProxy, "socks": trySOCKS,
}

func init() {
	helpers["try"] = func() {
		if err := attempts[os.Args[1]](os.Args[2:]); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
	}
}

const patience = 30 * time.Second // of one who should be answered at once

// try runs one attempt in a sandbox.
func (h *home) try(args ...string) *result {
	h.t.Helper()
	return h.helper("try", args...)
}

// resolver is Go's own: no libc takes part.
var resolver = &net.Resolver{PreferGo: true}

func dial(network, addr string) (net.Conn, error) {
	d := net.Dialer{Timeout: patience, Resolver: resolver}
	d.SetMultipathTCP(false)
	c, err := d.Dial(network, addr)
	if err == nil {
		err = c.SetDeadline(time.Now().Add(patience))
	}
	return c, err
}

// tryGet fetches a URL, "direct" without a proxy.
func tryGet(args []string) error {
	tr := &http.Transport{Proxy: http.ProxyFromEnvironment, DialContext: (&net.Dialer{Resolver: resolver}).DialContext}
	if len(args) > 1 && args[1] == "direct" {
		tr.Proxy = nil
	}
	resp, err := (&http.Client{Transport: tr, Timeout: patience}).Get(args[0])
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return errors.New(resp.Status)
	}
	_, err = io.Copy(os.Stdout, resp.Body)
	return err
}

// answer prints what the other side says. Silence is a refusal, and so are our
// own words.
func answer(c io.Reader) error {
	b := make([]byte, 4096)
	n, err := c.Read(b)
	fmt.Printf("%q\n", b[:n])
	switch {
	case n == 0:
		return fmt.Errorf("no answer: %w", err)
	case bytes.Contains(b[:n], []byte("X-Sallyport-Reason")), bytes.Contains(b[:n], []byte("SSH-2.0-sallyport")), b[0] == 21:
		return errors.New("refused in words")
	}
	return nil
}

// tryTCP connects to ADDR, sends the Go string BYTES, if any, and wants an answer.
func tryTCP(args []string) error {
	c, err := dial("tcp", args[0])
	if err != nil {
		return err
	}
	defer c.Close()
	if len(args) > 1 {
		if _, err := io.WriteString(c, unquote(args[1])); err != nil {
			return err
		}
	}
	return answer(c)
}

func unquote(s string) string {
	out, err := strconv.Unquote(`"` + s + `"`)
	if err != nil {
		panic(err)
	}
	return out
}

// tryTLS shakes hands with ADDR, asking for the server name SNI, none if empty.
// Where PROXY-TARGET is given, ADDR is reached by a CONNECT to it.
func tryTLS(args []string) error {
	var c net.Conn
	var err error
	if len(args) > 2 {
		c, err = tunnel(args[2])
	} else {
		c, err = dial("tcp", args[0])
	}
	if err != nil {
		return err
	}
	defer c.Close()
	s := tls.Client(c, &tls.Config{ServerName: unquote(args[1]), InsecureSkipVerify: true})
	if err := s.Handshake(); err != nil {
		return err
	}
	fmt.Fprintf(s, "GET / HTTP/1.0\r\nHost: %s\r\n\r\n", args[1])
	return answer(s)
}

// dialProxy connects to the explicit proxy.
func dialProxy() (net.Conn, error) {
	u, err := url.Parse(os.Getenv("http_proxy"))
	if err != nil {
		return nil, err
	}
	return dial("tcp", u.Host)
}

func tunnel(target string) (net.Conn, error) {
	c, err := dialProxy()
	if err != nil {
		return nil, err
	}
	fmt.Fprintf(c, "CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\n", target, target)
	head := ""
	for one := make([]byte, 1); !strings.HasSuffix(head, "\r\n\r\n"); head += string(one) {
		if _, err := io.ReadFull(c, one); err != nil {
			return nil, fmt.Errorf("read answer to CONNECT: %w", err)
		}
	}
	if !strings.HasPrefix(head, "HTTP/1.1 200 ") {
		return nil, errors.New(head)
	}
	return c, nil
}

// tryProxy sends the Go string BYTES to the proxy and wants a 200.
func tryProxy(args []string) error {
	c, err := dialProxy()
	if err != nil {
		return err
	}
	defer c.Close()
	if _, err := io.WriteString(c, unquote(args[0])); err != nil {
		return err
	}
	b, err := io.ReadAll(io.LimitReader(c, 64<<10))
	fmt.Printf("%s\n", b)
	if !bytes.HasPrefix(b, []byte("HTTP/1.1 200 ")) {
		return errors.Join(errors.New("not a 200"), err)
	}
	return nil
}

// trySOCKS asks the proxy by SOCKS5 for the Go string HOST and PORT.
func trySOCKS(args []string) error {
	c, err := dialProxy()
	if err != nil {
		return err
	}
	defer c.Close()
	host := unquote(args[0])
	port, err := strconv.ParseUint(args[1], 10, 16)
	if err != nil {
		return err
	}
	req := append([]byte{5, 1, 0, 5, 1, 0, 3, byte(len(host))}, host...)
	if _, err := c.Write(append(req, byte(port>>8), byte(port))); err != nil {
		return err
	}
	var got [4]byte // method chosen; version and status of the reply
	if _, err := io.ReadFull(c, got[:]); err != nil {
		return err
	}
	if got[3] != 0 {
		return fmt.Errorf("SOCKS status %d", got[3])
	}
	return nil
}

// tryUDP sends N packets to ADDR. The socket is not connected: else the error
// of one packet is what the next call fails with, and no packet is made.
func tryUDP(args []string) error {
	to, err := resolver.LookupNetIP(context.Background(), "ip", hostOf(args[0]))
	if err != nil {
		return err
	}
	port := netip.MustParseAddrPort("0.0.0.0" + args[0][strings.LastIndexByte(args[0], ':'):]).Port()
	c, err := net.ListenUDP("udp", nil)
	if err != nil {
		return err
	}
	defer c.Close()
	n, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	var errs []error
	for range n {
		if _, err := c.WriteToUDPAddrPort([]byte("hello"), netip.AddrPortFrom(to[0], port)); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func hostOf(addr string) string {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		panic(err)
	}
	return host
}

func sockaddr(a netip.AddrPort) (int, unix.Sockaddr) {
	if a.Addr().Is4() {
		return unix.AF_INET, &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}
	}
	return unix.AF_INET6, &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16()}
}

// tryMPTCP connects to ADDR by multipath TCP.
func tryMPTCP(args []string) error {
	family, to := sockaddr(netip.MustParseAddrPort(args[0]))
	fd, err := unix.Socket(family, unix.SOCK_STREAM, unix.IPPROTO_MPTCP)
	if err != nil {
		return err
	}
	if err := unix.Connect(fd, to); err != nil {
		return err
	}
	return talk(fd)
}

// tryFastOpen sends its first bytes to ADDR without connect(2).
func tryFastOpen(args []string) error {
	family, to := sockaddr(netip.MustParseAddrPort(args[0]))
	fd, err := unix.Socket(family, unix.SOCK_STREAM, 0)
	if err != nil {
		return err
	}
	if err := unix.Sendto(fd, []byte("hello\n"), unix.MSG_FASTOPEN, to); err != nil {
		return err
	}
	return talk(fd)
}

func talk(fd int) error {
	f := os.NewFile(uintptr(fd), "socket")
	c, err := net.FileConn(f)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	if _, err := io.WriteString(c, "hello\n"); err != nil {
		return err
	}
	return answer(c)
}

// tryPing sends an echo request to ADDR from a ping socket (icmp(7)).
func tryPing(args []string) error {
	a := netip.MustParseAddr(args[0])
	proto, kind := unix.IPPROTO_ICMP, byte(8)
	if a.Is6() {
		proto, kind = unix.IPPROTO_ICMPV6, 128
	}
	family, to := sockaddr(netip.AddrPortFrom(a, 0))
	fd, err := unix.Socket(family, unix.SOCK_DGRAM, proto)
	if err != nil {
		return fmt.Errorf("open ping socket: %w", err)
	}
	wait := unix.NsecToTimeval(patience.Nanoseconds())
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &wait); err != nil {
		return err
	}
	// Connected: an ICMPv6 socket gets the error of its packet later, and only
	// then without asking for it (IPV6_RECVERR in ipv6(7)).
	if err := unix.Connect(fd, to); err != nil {
		return err
	}
	if _, err := unix.Write(fd, []byte{kind, 0, 0, 0, 0, 1, 0, 1}); err != nil {
		return err
	}
	_, _, err = unix.Recvfrom(fd, make([]byte, 64), 0)
	return err
}

// tryDNS asks SERVER over NETWORK for NAME, a Go string, and wants an address.
func tryDNS(args []string) error {
	name, err := dnsmessage.NewName(unquote(args[2]) + ".")
	if err != nil {
		return err
	}
	q := dnsmessage.Message{Header: dnsmessage.Header{ID: 7, RecursionDesired: true},
		Questions: []dnsmessage.Question{{Name: name, Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}}}
	query, err := q.Pack()
	if err != nil {
		return err
	}
	c, err := dial(args[0], net.JoinHostPort(args[1], "53"))
	if err != nil {
		return err
	}
	defer c.Close()
	size := 0
	if args[0] == "tcp" {
		size = 2
		query = append([]byte{byte(len(query) >> 8), byte(len(query))}, query...)
	}
	if _, err := c.Write(query); err != nil {
		return err
	}
	b := make([]byte, 4096)
	n, err := c.Read(b)
	if err != nil {
		return err
	}
	var m dnsmessage.Message
	if err := m.Unpack(b[size:n]); err != nil {
		return err
	}
	for _, a := range m.Answers {
		if body, ok := a.Body.(*dnsmessage.AResource); ok {
			fmt.Println(netip.AddrFrom4(body.A))
			return nil
		}
	}
	return fmt.Errorf("answer without address: %s", m.RCode)
}
