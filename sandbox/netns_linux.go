package sandbox

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/internal/plan"
)

// netSockets are the doors of a sandbox's network namespace: sockets made
// inside it, for a proxy outside. All are close-on-exec.
type netSockets struct {
	TCP4, TCP6     *os.File // transparent listeners; TCP6 is nil without IPv6
	DNSUDP, DNSTCP *os.File // port 53 of every address
	NFLOG          *os.File // refused packets, for readNFLOG

	// PingErr says why the payload may not open ping sockets. Then the kernel
	// refuses them with EACCES and no packet exists to be recorded.
	PingErr error
}

// Close closes every socket.
func (s *netSockets) Close() error {
	var errs []error
	for _, f := range []*os.File{s.TCP4, s.TCP6, s.DNSUDP, s.DNSTCP, s.NFLOG} {
		if f != nil {
			errs = append(errs, f.Close())
		}
	}
	return errors.Join(errs...)
}

// setupNetwork builds n in the network namespace of the calling thread, which
// must be a new one in which the caller has CAP_NET_ADMIN,
// CAP_NET_BIND_SERVICE and, for the ping range, the payload's group.
func setupNetwork(n plan.Network) (*netSockets, error) {
	if !haveIPv6() {
		n.Proxy6 = netip.AddrPort{}
	}
	if err := setupLoopback(n); err != nil {
		return nil, err
	}
	if err := loadRules(n); err != nil {
		return nil, err
	}
	s := &netSockets{PingErr: allowPing(os.Getegid())}
	if err := s.open(n); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// haveIPv6 is false on a host started with ipv6.disable=1, where the payload
// has no IPv6 sockets either.
func haveIPv6() bool {
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return !errors.Is(err, unix.EAFNOSUPPORT)
	}
	unix.Close(fd)
	return true
}

// setupLoopback brings lo up, gives it the proxy's addresses, and makes every
// other address local.
func setupLoopback(n plan.Network) error {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("open rtnetlink: %w", err)
	}
	defer h.Close()
	lo, err := h.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("find lo: %w", err)
	}
	if err := h.LinkSetUp(lo); err != nil {
		return fmt.Errorf("bring lo up: %w", err)
	}
	if err := addLocal(h, lo, n.Proxy4.Addr(), net.IPv4zero.To4()); err != nil {
		return err
	}
	if !n.Proxy6.IsValid() {
		return nil
	}
	if err := enableIPv6(); err != nil {
		return err
	}
	return addLocal(h, lo, n.Proxy6.Addr(), net.IPv6zero)
}

// addLocal gives addr to lo and routes all of its family to lo, as local
// addresses. Connections start from addr: without a source in the route it
// would be the destination itself, and a resolver's AI_ADDRCONFIG finds no
// address of the family.
func addLocal(h *netlink.Handle, lo netlink.Link, addr netip.Addr, zero net.IP) error {
	ip := net.IP(addr.AsSlice())
	bits := addr.BitLen()
	host := &net.IPNet{IP: ip, Mask: net.CIDRMask(bits, bits)}
	// Without NODAD an IPv6 address stays tentative for a moment, even on lo,
	// and the kernel takes no such address for a route's source.
	if err := h.AddrAdd(lo, &netlink.Addr{IPNet: host, Flags: unix.IFA_F_NODAD}); err != nil {
		return fmt.Errorf("add %s to lo: %w", addr, err)
	}
	err := h.RouteAdd(&netlink.Route{
		LinkIndex: lo.Attrs().Index,
		Dst:       &net.IPNet{IP: zero, Mask: net.CIDRMask(0, bits)},
		Src:       ip,
		Type:      unix.RTN_LOCAL,
		Table:     unix.RT_TABLE_LOCAL,
		Scope:     netlink.SCOPE_HOST,
	})
	if err != nil {
		return fmt.Errorf("route everything to %s: %w", addr, err)
	}
	return nil
}

// enableIPv6 undoes the ipv6.disable_ipv6=1 of a kernel command line, which
// new namespaces start with.
func enableIPv6() error {
	const knob = "/proc/sys/net/ipv6/conf/lo/disable_ipv6"
	v, err := os.ReadFile(knob)
	if err != nil || v[0] == '0' {
		return nil // adding the address says what is wrong, if anything is
	}
	if err := os.WriteFile(knob, []byte("0"), 0); err != nil {
		return fmt.Errorf("enable IPv6: %w", err)
	}
	return nil
}

// allowPing lets the payload's group open ping sockets (icmp(7)), so that an
// echo request becomes a packet, and is refused and recorded by nftables.
func allowPing(gid int) error {
	err := os.WriteFile("/proc/sys/net/ipv4/ping_group_range", fmt.Appendf(nil, "%d %d", gid, gid), 0)
	if err != nil {
		return fmt.Errorf("allow ping sockets: %w", err)
	}
	return nil
}

// open makes the sockets of s.
func (s *netSockets) open(n plan.Network) (err error) {
	transparent4 := sockopt{unix.SOL_IP, unix.IP_TRANSPARENT, 1}
	if s.TCP4, err = listenTCP(n, n.Proxy4, transparent4); err != nil {
		return err
	}
	anyAddr := netip.IPv4Unspecified()
	pktinfo := []sockopt{{unix.SOL_IP, unix.IP_PKTINFO, 1}}
	var dual []sockopt
	if n.Proxy6.IsValid() {
		transparent6 := sockopt{unix.SOL_IPV6, unix.IPV6_TRANSPARENT, 1}
		if s.TCP6, err = listenTCP(n, n.Proxy6, transparent6); err != nil {
			return err
		}
		anyAddr = netip.IPv6Unspecified()
		dual = []sockopt{{unix.SOL_IPV6, unix.IPV6_V6ONLY, 0}}
		// An IPv6 source must be an address of a device, not just routed
		// locally, unless the socket may bind freely (ipv6(7)).
		pktinfo = append(pktinfo, dual[0],
			sockopt{unix.SOL_IPV6, unix.IPV6_RECVPKTINFO, 1},
			sockopt{unix.SOL_IPV6, unix.IPV6_FREEBIND, 1})
	}
	dns := netip.AddrPortFrom(anyAddr, 53)
	if s.DNSUDP, err = bind(n, unix.SOCK_DGRAM, unix.IPPROTO_UDP, dns, pktinfo...); err != nil {
		return err
	}
	if s.DNSTCP, err = listenTCP(n, dns, dual...); err != nil {
		return err
	}
	s.NFLOG, err = openNFLOG(n.NFLOGGroup)
	return err
}

type sockopt struct{ level, name, value int }

// listenTCP asks for TCP by name: on a plain TCP listener getsockname(2) of an
// accepted MPTCP client is the original destination, too.
func listenTCP(n plan.Network, at netip.AddrPort, opts ...sockopt) (*os.File, error) {
	f, err := bind(n, unix.SOCK_STREAM, unix.IPPROTO_TCP, at, opts...)
	if err != nil {
		return nil, err
	}
	if err := unix.Listen(int(f.Fd()), unix.SOMAXCONN); err != nil {
		f.Close()
		return nil, fmt.Errorf("listen on %s: %w", at, err)
	}
	return f, nil
}

// bind makes a socket whose packets carry n's mark.
func bind(n plan.Network, typ, proto int, at netip.AddrPort, opts ...sockopt) (*os.File, error) {
	family := unix.AF_INET
	var sa unix.Sockaddr = &unix.SockaddrInet4{Port: int(at.Port())}
	if at.Addr().Is6() {
		family = unix.AF_INET6
		sa = &unix.SockaddrInet6{Port: int(at.Port()), Addr: at.Addr().As16()}
	} else {
		sa.(*unix.SockaddrInet4).Addr = at.Addr().As4()
	}
	fd, err := unix.Socket(family, typ|unix.SOCK_CLOEXEC, proto)
	if err != nil {
		return nil, fmt.Errorf("open socket for %s: %w", at, err)
	}
	for _, o := range append(opts, sockopt{unix.SOL_SOCKET, unix.SO_MARK, int(n.Mark)}) {
		if err := unix.SetsockoptInt(fd, o.level, o.name, o.value); err != nil {
			unix.Close(fd)
			return nil, fmt.Errorf("set option %d:%d for %s: %w", o.level, o.name, at, err)
		}
	}
	if err := unix.Bind(fd, sa); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("bind %s: %w", at, err)
	}
	return os.NewFile(uintptr(fd), at.String()), nil
}
