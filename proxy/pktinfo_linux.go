package proxy

import (
	"fmt"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"
)

// preparePackets makes the kernel tell which address each packet was sent to.
// On a dual-stack socket IPV6_RECVPKTINFO covers IPv4 too, as a mapped address,
// and sendmsg takes it back (ip_cmsg_send in net/ipv4/ip_sockglue.c).
func preparePackets(c *net.UDPConn) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return fmt.Errorf("prepare DNS socket: %w", err)
	}
	var opt error
	err = raw.Control(func(fd uintptr) {
		opt = unix.SetsockoptInt(int(fd), unix.SOL_IPV6, unix.IPV6_RECVPKTINFO, 1)
		if opt == unix.ENOPROTOOPT || opt == unix.EOPNOTSUPP {
			opt = nil // an IPv4 socket is bound to the one address it answers from
		}
	})
	if err == nil {
		err = opt
	}
	if err != nil {
		return fmt.Errorf("prepare DNS socket: %w", err)
	}
	return nil
}

// packetInfo gives the address a packet was sent to, and the control message
// that sends the answer from there.
func packetInfo(oob []byte) (netip.Addr, []byte) {
	msgs, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return netip.Addr{}, nil
	}
	for _, m := range msgs {
		if m.Header.Level != unix.SOL_IPV6 || m.Header.Type != unix.IPV6_PKTINFO ||
			len(m.Data) < unix.SizeofInet6Pktinfo {
			continue
		}
		// The interface is left open: the address alone says where from.
		info := unix.Inet6Pktinfo{Addr: [16]byte(m.Data[:16])}
		return netip.AddrFrom16(info.Addr).Unmap(), unix.PktInfo6(&info)
	}
	return netip.Addr{}, nil
}
