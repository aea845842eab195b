package sandbox

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/internal/plan"
)

var helpers = map[string]func(args []string) error{
	"stage1":     testStage1,
	"setup-only": setupOnly,
	"setup-v4":   setupWithoutIPv6,
	"setup-off":  setupWhereIPv6IsOff,
	"nft-go":     listRulesOfGo,
	"nft-text":   listRulesOfText,

	"seccomp-exec":   execFiltered,
	"seccomp-try":    tryRefused,
	"seccomp-notify": notifyListener,

	"tcp":       dialTCP,
	"dns":       askDNS,
	"udp-burst": func(args []string) error { return sendUDP(args[0], 1000) },
	"udp-flood": floodUDP,
	"loopback":  echoOnLoopback,
	"powerless": tryPowers,
	"impostor":  playTheOutside,

	"ping4":            func([]string) error { return sendOdd(ping4) },
	"ping6":            func([]string) error { return sendOdd(ping6) },
	"dns-to-a-group4":  func([]string) error { return sendOdd(odd{to: "224.0.0.251:53"}) },
	"dns-to-a-group6":  func([]string) error { return sendOdd(odd{to: "[ff02::fb]:53"}) },
	"dns-to-all-hosts": func([]string) error { return sendOdd(odd{to: "255.255.255.255:53", opts: []oddOpt{broadcast}}) },
	"udplite":          func([]string) error { return sendOdd(odd{to: "192.0.2.9:53", proto: unix.IPPROTO_UDPLITE}) },
	"udplite6":         func([]string) error { return sendOdd(odd{to: "[2001:db8::9]:53", proto: unix.IPPROTO_UDPLITE}) },
	"fragments6":       func([]string) error { return sendOdd(fragments6) },
	"tcp-options":      func([]string) error { return sendOdd(odd{to: "8.8.8.8:80", tcp: true, opts: []oddOpt{recordRoute}}) },
	"dns-options":      func([]string) error { return sendOdd(odd{to: "127.0.0.1:53", opts: []oddOpt{recordRoute}}) },
	"dns-routing-header": func([]string) error {
		return sendOdd(odd{to: "[2001:db8::1]:53", opts: []oddOpt{routing("2001:db8::a", "2001:db8::1")}})
	},
	"mapped-udp":  func([]string) error { return sendOdd(odd{to: "[::ffff:192.0.2.3]:443"}) },
	"own-address": func([]string) error { return sendOdd(odd{to: "198.18.0.1:8080"}) },
}

// setupWithoutIPv6 is what stage 1 does on a host started with ipv6.disable=1.
func setupWithoutIPv6([]string) error {
	n := plan.DefaultNetwork()
	n.Proxy6 = netip.AddrPort{}
	s, _, err := setupHere(n)
	if err != nil {
		return err
	}
	if s.TCP6 != nil || s.TCP4 == nil {
		return fmt.Errorf("listeners %v, %v", s.TCP4, s.TCP6)
	}
	c, err := net.Dial("tcp4", "8.8.8.8:53") // the backlog takes it
	if err != nil {
		return err
	}
	return errors.Join(c.Close(), s.Close())
}

// setupWhereIPv6IsOff begins as a namespace does with ipv6.disable_ipv6=1.
func setupWhereIPv6IsOff(args []string) error {
	for _, name := range []string{"all", "default", "lo"} {
		if err := os.WriteFile("/proc/sys/net/ipv6/conf/"+name+"/disable_ipv6", []byte("1"), 0); err != nil {
			return err
		}
	}
	return setupOnly(args)
}

func setupOnly([]string) error {
	start := time.Now()
	s, _, err := setupHere(plan.DefaultNetwork())
	if err != nil {
		return err
	}
	fmt.Print(time.Since(start))
	return s.Close()
}

// networkOf reads the two proxy addresses a test chose; an invalid second one
// means no IPv6.
func networkOf(args []string) plan.Network {
	n := plan.DefaultNetwork()
	n.Proxy4 = netip.MustParseAddrPort(args[0])
	n.Proxy6, _ = netip.ParseAddrPort(args[1])
	return n
}

func listRulesOfGo(args []string) error {
	if err := loadRules(networkOf(args), netlinkHere(unix.NETLINK_NETFILTER)); err != nil {
		return err
	}
	return nft("", "list", "ruleset")
}

func listRulesOfText(args []string) error {
	if err := nft(networkOf(args).NFTText(), "-f", "-"); err != nil {
		return err
	}
	return nft("", "list", "ruleset")
}

func nft(stdin string, args ...string) error {
	cmd := exec.Command("nft", args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), os.Stdout, os.Stderr
	return cmd.Run()
}

func dialTCP(to []string) error {
	for _, how := range []string{"tcp", "mptcp"} {
		var d net.Dialer
		d.SetMultipathTCP(how == "mptcp")
		for _, addr := range to {
			if err := printReply(d, how+" "+addr, addr); err != nil {
				return err
			}
		}
	}
	// An IPv6 socket, where the Go library would have taken an IPv4 one.
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_STREAM, 0)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), "mapped")
	if err := unix.Connect(fd, sockaddr("[::ffff:9.9.9.9]:25")); err != nil {
		return err
	}
	reply, err := io.ReadAll(f)
	fmt.Printf("mapped: %s", reply)
	return err
}

func printReply(d net.Dialer, label, addr string) error {
	c, err := d.Dial("tcp", addr)
	if err != nil {
		return err
	}
	defer c.Close()
	// Not to its end: MPTCP that fell back to TCP may miss it, and after a minute
	// (net.mptcp.close_timeout) makes EPIPE of it; seen on Linux 6.18 and 7.3.
	reply, err := bufio.NewReader(c).ReadString('\n')
	from := netip.MustParseAddrPort(c.LocalAddr().String())
	// The proxy must see the very address and port the payload's end has.
	line, ok := strings.CutSuffix(reply, fmt.Sprintf(" from %s\n", from))
	if err != nil || !ok {
		return fmt.Errorf("%s from %s: reply %q, %v", label, from, reply, err)
	}
	fmt.Printf("%s: %s from %s\n", label, line, from)
	return nil
}

func askDNS(servers []string) error {
	for _, s := range servers {
		if err := ask(s, s, nil); err != nil {
			return err
		}
		// Every address is local, so any may be the source, too.
		source := &net.UDPAddr{IP: net.ParseIP("203.0.113.77"), Port: 5353}
		switch {
		case strings.HasPrefix(s, "["):
			source.IP = net.ParseIP("2001:db8::77")
		case strings.HasPrefix(s, "127."):
			source.IP = net.ParseIP("127.9.9.9")
		}
		if err := ask(s+" unusual source", s, source); err != nil {
			return err
		}
	}
	return nil
}

func ask(label, server string, from *net.UDPAddr) error {
	d := net.Dialer{}
	if from != nil {
		d.LocalAddr = from
		d.Control = freebind
	}
	c, err := d.Dial("udp", server) // connected: takes answers from server alone
	if err != nil {
		return err
	}
	defer c.Close()
	if _, err := c.Write([]byte("question")); err != nil {
		return err
	}
	c.SetReadDeadline(time.Now().Add(30 * time.Second))
	buf := make([]byte, 64)
	n, err := c.Read(buf)
	if err != nil {
		return fmt.Errorf("%s: %w", label, err)
	}
	fmt.Printf("%s: %s\n", label, buf[:n])
	return nil
}

// freebind lets an IPv6 socket have an address that no device has.
func freebind(network, _ string, c syscall.RawConn) (err error) {
	if network == "udp4" {
		return nil
	}
	ctlErr := c.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.SOL_IPV6, unix.IPV6_FREEBIND, 1)
	})
	return errors.Join(ctlErr, err)
}

func sendUDP(to string, n int) error {
	fd, sa, err := udpSocket(to, 0)
	if err != nil {
		return err
	}
	for i := range n {
		if err := unix.Sendto(fd, []byte("x"), 0, sa); !errors.Is(err, unix.EPERM) {
			return fmt.Errorf("packet %d: %v", i, err)
		}
	}
	return nil
}

// floodUDP begins when stdin ends, and sends the last packet when all others
// have been read or lost.
func floodUDP(args []string) error {
	n, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	if _, err := io.ReadAll(os.Stdin); err != nil {
		return err
	}
	if err := sendUDP(args[0], n-1); err != nil {
		return err
	}
	time.Sleep(200 * time.Millisecond)
	return sendUDP(args[0], 1)
}

func udpSocket(to string, proto int) (int, unix.Sockaddr, error) {
	sa := sockaddr(to)
	family := unix.AF_INET6
	if _, v4 := sa.(*unix.SockaddrInet4); v4 {
		family = unix.AF_INET
	}
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, proto)
	return fd, sa, err
}

func sockaddr(s string) unix.Sockaddr {
	ap := netip.MustParseAddrPort(s)
	if ap.Addr().Is4() {
		return &unix.SockaddrInet4{Port: int(ap.Port()), Addr: ap.Addr().As4()}
	}
	return &unix.SockaddrInet6{Port: int(ap.Port()), Addr: ap.Addr().As16()}
}

func echoOnLoopback([]string) error {
	for _, host := range []string{"127.0.0.1", "127.8.9.10", "::1"} {
		addr := net.JoinHostPort(host, "0")
		l, err := net.Listen("tcp", addr)
		if err != nil {
			return err
		}
		go func() {
			c, err := l.Accept()
			if err == nil {
				io.Copy(c, c)
				c.Close()
			}
		}()
		if err := echo("tcp", l.Addr().String()); err != nil {
			return err
		}
		p, err := net.ListenPacket("udp", addr)
		if err != nil {
			return err
		}
		go func() {
			buf := make([]byte, 64)
			n, from, err := p.ReadFrom(buf)
			if err == nil {
				p.WriteTo(buf[:n], from)
			}
		}()
		if err := echo("udp", p.LocalAddr().String()); err != nil {
			return err
		}
		p.Close()
		// A closed port must be seen as closed: the kernel's ICMP error passes.
		if err := echo("udp", p.LocalAddr().String()); !errors.Is(err, unix.ECONNREFUSED) {
			return fmt.Errorf("closed port: %v", err)
		}
	}
	return nil
}

func echo(network, addr string) error {
	c, err := net.DialTimeout(network, addr, 30*time.Second)
	if err != nil {
		return err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(30 * time.Second))
	if _, err := c.Write([]byte("hello")); err != nil {
		return err
	}
	_, err = io.ReadFull(c, make([]byte, 5))
	return err
}

// tryPowers tries what would break the network's rules.
func tryPowers([]string) error {
	n := plan.DefaultNetwork()
	lo := &netlink.Device{LinkAttrs: netlink.LinkAttrs{Name: "lo", Index: 1}}
	sock := func(family, typ, proto int) int {
		fd, err := unix.Socket(family, typ, proto)
		if err != nil {
			fmt.Println("socket:", err)
		}
		return fd
	}
	powers := map[string]func() error{
		"list rules":    func() error { c, _ := nftables.New(); _, err := c.ListTables(); return err },
		"flush rules":   func() error { c, _ := nftables.New(); c.FlushRuleset(); return c.Flush() },
		"join nflog":    func() error { return bindNFLOG(netlinkHere(unix.NETLINK_NETFILTER), n.NFLOGGroup+1) },
		"mark":          func() error { return unix.SetsockoptInt(sock(2, 2, 0), unix.SOL_SOCKET, unix.SO_MARK, int(n.Mark)) },
		"transparent4":  func() error { return unix.SetsockoptInt(sock(2, 1, 0), unix.SOL_IP, unix.IP_TRANSPARENT, 1) },
		"transparent6":  func() error { return unix.SetsockoptInt(sock(10, 1, 0), unix.SOL_IPV6, unix.IPV6_TRANSPARENT, 1) },
		"proxy's port4": func() error { return unix.Bind(sock(2, 1, 0), sockaddr(n.Proxy4.String())) },
		"proxy's port6": func() error { return unix.Bind(sock(10, 1, 0), sockaddr(n.Proxy6.String())) },
		"proxy's port, any address": func() error {
			return unix.Bind(sock(10, 1, 0), sockaddr(fmt.Sprintf("[::]:%d", n.Proxy6.Port())))
		},
		"a DNS server's port": func() error { return unix.Bind(sock(2, 2, 0), sockaddr("8.8.8.8:53")) },
		"raw socket":          func() error { _, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_UDP); return err },
		"raw socket6":         func() error { _, err := unix.Socket(unix.AF_INET6, unix.SOCK_RAW, unix.IPPROTO_UDP); return err },
		"packet socket":       func() error { _, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW, 0); return err },
		"lo down":             func() error { return netlink.LinkSetDown(lo) },
		"an address": func() error {
			a, _ := netlink.ParseAddr("198.18.0.9/32")
			return netlink.AddrAdd(lo, a)
		},
		"a device": func() error { return netlink.LinkAdd(&netlink.Dummy{LinkAttrs: netlink.LinkAttrs{Name: "d0"}}) },
		"lower privileged ports": func() error {
			return os.WriteFile("/proc/sys/net/ipv4/ip_unprivileged_port_start", []byte("0"), 0)
		},
	}
	for name, try := range powers {
		if err := try(); err == nil {
			fmt.Printf("%s: ALLOWED\n", name)
		} else if !errors.Is(err, unix.EPERM) && !errors.Is(err, unix.EACCES) {
			fmt.Printf("%s: ALLOWED so far: %v\n", name, err)
		}
	}
	fmt.Println("all tried")
	return nil
}

// playTheOutside listens where a connection to addr would arrive if nothing
// took it to the proxy.
func playTheOutside(args []string) error {
	addr := netip.MustParseAddrPort(args[0])
	l, err := net.Listen("tcp", fmt.Sprintf("0.0.0.0:%d", addr.Port()))
	if err != nil {
		return err
	}
	defer l.Close()
	if _, err := io.ReadAll(os.Stdin); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	if _, err := new(net.Dialer).DialContext(ctx, "tcp", addr.String()); err == nil {
		return errors.New("connected to itself")
	}
	fmt.Println("no connection")
	return nil
}
