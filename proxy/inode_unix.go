//go:build unix

package proxy

import (
	"net"
	"syscall"
)

// socketInode names a socket as the kernel does, 0 if that is not known.
func socketInode(c *net.UnixConn) uint64 {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0
	}
	var st syscall.Stat_t
	if raw.Control(func(fd uintptr) { err = syscall.Fstat(int(fd), &st) }) != nil || err != nil {
		return 0
	}
	return uint64(st.Ino)
}
