package sandbox

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
)

// Wire layout of sock_diag(7): struct inet_diag_req_v2 and inet_diag_msg of
// linux/inet_diag.h, after a 16-byte struct nlmsghdr. Addresses and ports are
// in network order, everything else in the machine's.
const (
	nlmsgHeader      = 16
	diagRequestSize  = nlmsgHeader + 56
	diagMessageSize  = nlmsgHeader + 72
	sockDiagByFamily = 20
	nlmsgError       = 2
	nlmFlagRequest   = 1
	afINET, afINET6  = 2, 10
	anyCookie        = 0xffffffff // INET_DIAG_NOCOOKIE, twice
)

// socketID is one end of a connection, as its owner sees it.
type socketID struct {
	proto  uint8
	local  netip.AddrPort
	remote netip.AddrPort
}

// diagRequest asks for the one socket with these ends.
func diagRequest(id socketID) []byte {
	b := make([]byte, diagRequestSize)
	binary.NativeEndian.PutUint32(b[0:], diagRequestSize)
	binary.NativeEndian.PutUint16(b[4:], sockDiagByFamily)
	binary.NativeEndian.PutUint16(b[6:], nlmFlagRequest)
	r := b[nlmsgHeader:]
	r[0], r[1] = afINET, id.proto
	if id.local.Addr().Is6() {
		r[0] = afINET6
	}
	binary.NativeEndian.PutUint32(r[4:], 0xffffffff) // every state
	src, dst := id.local, id.remote
	if id.proto == protoUDP {
		src, dst = dst, src // "swapped for historical reasons" (net/ipv4/udp_diag.c)
	}
	s := r[8:] // struct inet_diag_sockid
	binary.BigEndian.PutUint16(s[0:], src.Port())
	binary.BigEndian.PutUint16(s[2:], dst.Port())
	copy(s[4:20], src.Addr().AsSlice())
	copy(s[20:36], dst.Addr().AsSlice())
	binary.NativeEndian.PutUint32(s[40:], anyCookie)
	binary.NativeEndian.PutUint32(s[44:], anyCookie)
	return b
}

var errNoSocket = errors.New("no such socket")

// diagInode reads the answer: the inode number of the socket, which names it in
// /proc/PID/fd (proc_pid_fd(5)). 0 is a socket that no descriptor holds.
func diagInode(b []byte) (uint32, error) {
	if err := checkDiag(b, diagMessageSize); err != nil {
		return 0, err
	}
	return binary.NativeEndian.Uint32(b[nlmsgHeader+68:]), nil
}

// checkDiag says what is wrong with an answer that should have a message of at
// least size bytes, its header with it.
func checkDiag(b []byte, size int) error {
	if len(b) < nlmsgHeader {
		return fmt.Errorf("read sock_diag answer: %d bytes", len(b))
	}
	switch kind := binary.NativeEndian.Uint16(b[4:]); {
	case kind == nlmsgError:
		return errNoSocket
	case kind != sockDiagByFamily:
		return fmt.Errorf("read sock_diag answer: message type %d", kind)
	case len(b) < size:
		return fmt.Errorf("read sock_diag answer: %d of %d bytes", len(b), size)
	}
	return nil
}
