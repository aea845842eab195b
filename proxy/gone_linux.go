package proxy

import (
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// States of a TCP socket (include/net/tcp_states.h).
const (
	tcpClose     = 7
	tcpCloseWait = 8
)

// gone reports whether the other side of a connection has ended it; half says
// that to have ended its own direction is enough.
func gone(c net.Conn, half bool) bool {
	sc, ok := c.(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return false
	}
	state := uint8(0)
	err = raw.Control(func(fd uintptr) {
		if info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO); err == nil {
			state = info.State
		}
	})
	return err != nil || state == tcpClose || half && state == tcpCloseWait
}
