package sandbox

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"syscall"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/internal/plan"
)

// netSockets are the doors of a sandbox's network namespace: sockets made
// inside it, for a proxy outside. All are close-on-exec.
type netSockets struct {
	TCP4, TCP6     *os.File // transparent listeners; TCP6 is nil without IPv6
	DNSUDP, DNSTCP *os.File // port 53 of every address
	NFLOG          *os.File // refused packets, for readNFLOG
	Diag           *os.File // who holds a socket
}

// Close closes every socket.
func (s *netSockets) Close() error {
	var errs []error
	for _, f := range []*os.File{s.TCP4, s.TCP6, s.DNSUDP, s.DNSTCP, s.NFLOG, s.Diag} {
		if f != nil {
			errs = append(errs, f.Close())
		}
	}
	return errors.Join(errs...)
}

// socketSpec is a socket to open in the sandbox's network namespace.
type socketSpec struct {
	name                string
	family, kind, proto int
}

// The sockets of a network namespace, in the order in which they are opened.
// TCP is asked for by name: on a plain TCP listener getsockname(2) of an
// accepted MPTCP client is the original destination, too.
func networkSockets(n plan.Network) []socketSpec {
	specs := []socketSpec{
		{"of NETLINK_ROUTE", unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_ROUTE},
		{"of nftables", unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_NETFILTER},
		{"of sock_diag", unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_INET_DIAG},
		{"of NFLOG", unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_NETFILTER},
		{"of TCP over IPv4", unix.AF_INET, unix.SOCK_STREAM, unix.IPPROTO_TCP},
	}
	family := unix.AF_INET
	if n.Proxy6.IsValid() {
		family = unix.AF_INET6
		specs = append(specs, socketSpec{"of TCP over IPv6", family, unix.SOCK_STREAM, unix.IPPROTO_TCP})
	}
	return append(specs,
		socketSpec{"of DNS", family, unix.SOCK_DGRAM, unix.IPPROTO_UDP},
		socketSpec{"of DNS over TCP", family, unix.SOCK_STREAM, unix.IPPROTO_TCP})
}

// setupNetwork builds n with sockets that networkSockets(n) asked for, which
// become its to close. The caller needs CAP_NET_ADMIN and CAP_NET_BIND_SERVICE
// in the user namespace that the network namespace belongs to, and the opener
// of the sockets must have had them (netlink_net_capable in
// net/netlink/af_netlink.c): its parent's user who made it has them all.
func setupNetwork(n plan.Network, fds []int) (*netSockets, error) {
	take := func() int {
		fd := fds[0]
		fds = fds[1:]
		return fd
	}
	route, rules := take(), take()
	defer unix.Close(route)
	defer unix.Close(rules)
	file := func() *os.File { return os.NewFile(uintptr(take()), "sandbox socket") }
	s := &netSockets{Diag: file()}
	nflog := take()
	s.TCP4 = file()
	if n.Proxy6.IsValid() {
		s.TCP6 = file()
	}
	s.DNSUDP, s.DNSTCP = file(), file()
	err := s.setup(n, route, rules, nflog)
	if err != nil {
		unix.Close(nflog)
	} else {
		s.NFLOG, err = nflogFile(nflog)
	}
	if err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

func (s *netSockets) setup(n plan.Network, route, rules, nflog int) error {
	if err := setupLoopback(n, route); err != nil {
		return err
	}
	if err := loadRules(n, rules); err != nil {
		return err
	}
	if err := s.bind(n); err != nil {
		return err
	}
	if err := bindNFLOG(nflog, n.NFLOGGroup); err != nil {
		return err
	}
	return limitDiag(s.Diag)
}

// availableNetwork is n without IPv6 on a host that was started with
// ipv6.disable=1, where the payload has no IPv6 sockets either.
func availableNetwork(n plan.Network) plan.Network {
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if errors.Is(err, unix.EAFNOSUPPORT) {
		n.Proxy6 = netip.AddrPort{}
	} else if err == nil {
		unix.Close(fd)
	}
	return n
}

// loopback is lo's number in every network namespace (include/linux/netdevice.h,
// LOOPBACK_IFINDEX).
const loopback = 1

// setupLoopback brings lo up, gives it the proxy's addresses, and makes every
// other address local.
func setupLoopback(n plan.Network, route int) error {
	up := rtRequest(unix.RTM_NEWLINK, 0)
	link := nl.NewIfInfomsg(unix.AF_UNSPEC)
	link.Index, link.Change, link.Flags = loopback, unix.IFF_UP, unix.IFF_UP
	up.AddData(link)
	requests := append([]*nl.NetlinkRequest{up}, addLocal(n.Proxy4.Addr())...)
	steps := []string{"bring lo up", "add the proxy's address to lo", "route everything to the proxy's address"}
	if n.Proxy6.IsValid() {
		requests = append(requests, addLocal(n.Proxy6.Addr())...)
		steps = append(steps, "add the proxy's IPv6 address to lo", "route everything to the proxy's IPv6 address")
	}
	var batch []byte
	for i, r := range requests {
		r.Seq = uint32(i)
		batch = append(batch, r.Serialize()...)
	}
	return exchange(route, batch, func(seq uint32) string { return steps[seq] }, len(requests))
}

func rtRequest(kind, flags int) *nl.NetlinkRequest {
	return nl.NewNetlinkRequest(kind, flags|unix.NLM_F_ACK)
}

// addLocal gives addr to lo and routes all of its family to lo, as local
// addresses. Connections start from addr: without a source in the route it
// would be the destination itself, and a resolver's AI_ADDRCONFIG finds no
// address of the family.
func addLocal(addr netip.Addr) []*nl.NetlinkRequest {
	ip, family := addr.AsSlice(), unix.AF_INET
	if addr.Is6() {
		family = unix.AF_INET6
	}
	add := rtRequest(unix.RTM_NEWADDR, unix.NLM_F_CREATE|unix.NLM_F_EXCL)
	msg := nl.NewIfAddrmsg(family)
	msg.Index, msg.Prefixlen = loopback, uint8(addr.BitLen())
	// Without NODAD an IPv6 address stays tentative for a moment, even on lo,
	// and the kernel takes no such address for a route's source.
	msg.Flags = unix.IFA_F_NODAD
	add.AddData(msg)
	add.AddData(nl.NewRtAttr(unix.IFA_LOCAL, ip))
	add.AddData(nl.NewRtAttr(unix.IFA_ADDRESS, ip))
	all := rtRequest(unix.RTM_NEWROUTE, unix.NLM_F_CREATE|unix.NLM_F_EXCL)
	route := nl.NewRtMsg()
	route.Family = uint8(family)
	route.Type, route.Table, route.Scope = unix.RTN_LOCAL, unix.RT_TABLE_LOCAL, unix.RT_SCOPE_HOST
	all.AddData(route)
	all.AddData(nl.NewRtAttr(unix.RTA_PREFSRC, ip))
	all.AddData(nl.NewRtAttr(unix.RTA_OIF, nl.Uint32Attr(loopback)))
	return []*nl.NetlinkRequest{add, all}
}

// exchange sends netlink messages and waits for so many acknowledgements; name
// says what a message was for.
func exchange(fd int, messages []byte, name func(seq uint32) string, acks int) error {
	if err := unix.Sendto(fd, messages, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return fmt.Errorf("send netlink messages: %w", err)
	}
	buf := make([]byte, 8<<10)
	for acks > 0 {
		n, _, err := unix.Recvfrom(fd, buf, 0)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return fmt.Errorf("receive netlink acknowledgements: %w", err)
		}
		got, err := acknowledged(buf[:n], name)
		if err != nil {
			return err
		}
		acks -= got
	}
	return nil
}

// acknowledged counts the acknowledgements in an answer.
func acknowledged(answer []byte, name func(seq uint32) string) (int, error) {
	messages, err := syscall.ParseNetlinkMessage(answer)
	if err != nil {
		return 0, fmt.Errorf("read netlink acknowledgements: %w", err)
	}
	for _, m := range messages {
		if m.Header.Type != unix.NLMSG_ERROR || len(m.Data) < 4 {
			return 0, fmt.Errorf("read netlink acknowledgements: message of type %d", m.Header.Type)
		}
		if errno := int32(binary.NativeEndian.Uint32(m.Data)); errno != 0 {
			return 0, fmt.Errorf("%s: %w", name(m.Header.Seq), syscall.Errno(-errno))
		}
	}
	return len(messages), nil
}

// bind gives the proxy's sockets their addresses.
func (s *netSockets) bind(n plan.Network) error {
	if err := bind(s.TCP4, n, n.Proxy4, sockopt{unix.SOL_IP, unix.IP_TRANSPARENT, 1}); err != nil {
		return err
	}
	anyAddr := netip.IPv4Unspecified()
	pktinfo := []sockopt{{unix.SOL_IP, unix.IP_PKTINFO, 1}}
	var dual []sockopt
	if s.TCP6 != nil {
		if err := bind(s.TCP6, n, n.Proxy6, sockopt{unix.SOL_IPV6, unix.IPV6_TRANSPARENT, 1}); err != nil {
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
	if err := bind(s.DNSUDP, n, dns, pktinfo...); err != nil {
		return err
	}
	if err := bind(s.DNSTCP, n, dns, dual...); err != nil {
		return err
	}
	for _, f := range []*os.File{s.TCP4, s.TCP6, s.DNSTCP} {
		if f == nil {
			continue
		}
		if err := unix.Listen(int(f.Fd()), unix.SOMAXCONN); err != nil {
			return fmt.Errorf("listen: %w", err)
		}
	}
	return nil
}

type sockopt struct{ level, name, value int }

// bind binds a socket, whose packets carry n's mark.
func bind(f *os.File, n plan.Network, at netip.AddrPort, opts ...sockopt) error {
	fd := int(f.Fd())
	for _, o := range append(opts, sockopt{unix.SOL_SOCKET, unix.SO_MARK, int(n.Mark)}) {
		if err := unix.SetsockoptInt(fd, o.level, o.name, o.value); err != nil {
			return fmt.Errorf("set option %d:%d for %s: %w", o.level, o.name, at, err)
		}
	}
	if err := unix.Bind(fd, sockaddrOf(at)); err != nil {
		return fmt.Errorf("bind %s: %w", at, err)
	}
	return nil
}

func sockaddrOf(at netip.AddrPort) unix.Sockaddr {
	if at.Addr().Is6() {
		return &unix.SockaddrInet6{Port: int(at.Port()), Addr: at.Addr().As16()}
	}
	return &unix.SockaddrInet4{Port: int(at.Port()), Addr: at.Addr().As4()}
}
