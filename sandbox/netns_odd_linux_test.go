package sandbox

import (
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// odd is one unusual packet that a payload can send without any privilege.
type odd struct {
	to      string
	tcp     bool
	proto   int
	payload []byte
	opts    []oddOpt
}

type oddOpt struct {
	level, name int
	value       []byte
}

var (
	broadcast = oddOpt{unix.SOL_SOCKET, unix.SO_BROADCAST, []byte{1, 0, 0, 0}}

	ping4 = odd{to: "8.8.8.8:0", proto: unix.IPPROTO_ICMP, payload: []byte{8, 0, 0, 0, 0, 0, 0, 1}}
	ping6 = odd{
		to: "[2001:db8::1]:0", proto: unix.IPPROTO_ICMPV6, payload: []byte{128, 0, 0, 0, 0, 0, 0, 1},
		opts: []oddOpt{{unix.SOL_IPV6, unix.IPV6_RECVERR, []byte{1, 0, 0, 0}}},
	}

	// Any process may ask for fragments of 1280 bytes (ipv6(7), IPV6_MTU).
	fragments6 = odd{
		to: "[2001:db8::9]:443", payload: make([]byte, 5000),
		opts: []oddOpt{{unix.SOL_IPV6, unix.IPV6_MTU, []byte{0, 5, 0, 0}}},
	}

	// Record route (RFC 791, section 3.1); the options that steer a packet
	// need a privilege on newer kernels.
	recordRoute = oddOpt{unix.SOL_IP, unix.IP_OPTIONS, []byte{7, 7, 4, 0, 0, 0, 0, 0}}
)

// routing is a segment routing header (RFC 8754) by way of one hop.
func routing(hop, end string) oddOpt {
	header := []byte{0, 4, 4, 1, 1, 0, 0, 0}
	for _, s := range []string{end, hop} { // last segment first
		a := netip.MustParseAddr(s).As16()
		header = append(header, a[:]...)
	}
	return oddOpt{unix.SOL_IPV6, unix.IPV6_RTHDR, header}
}

// sendOdd sends o and prints "refused" if that fails as a refusal does.
func sendOdd(o odd) error {
	fd, sa, err := udpSocket(o.to, o.proto)
	if o.tcp {
		fd, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	}
	if err != nil {
		return fmt.Errorf("open socket: %w", err)
	}
	for _, opt := range o.opts {
		if err := unix.SetsockoptString(fd, opt.level, opt.name, string(opt.value)); err != nil {
			return fmt.Errorf("set option %d:%d: %w", opt.level, opt.name, err)
		}
	}
	if o.tcp {
		err = unix.Connect(fd, sa)
	} else {
		if o.payload == nil {
			o.payload = []byte("x")
		}
		err = unix.Sendto(fd, o.payload, 0, sa)
	}
	if o.proto == unix.IPPROTO_ICMPV6 && err == nil {
		err = pendingError(fd) // the kernel does not pass it on at once
	}
	if !errors.Is(err, unix.EPERM) && !errors.Is(err, unix.EACCES) && !errors.Is(err, unix.EHOSTUNREACH) {
		return fmt.Errorf("send: %v", err)
	}
	fmt.Println("refused")
	return nil
}

func pendingError(fd int) error {
	_, _, err := unix.Recvfrom(fd, make([]byte, 64), unix.MSG_DONTWAIT)
	return err
}
