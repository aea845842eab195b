package sandbox

import (
	"fmt"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// netns knows the sandbox's network namespace from others.
type netns struct {
	ino uint64 // of its file in nsfs, which the sandbox keeps
	// cookie is the kernel's own name for it, which no other ever has; 0 until a
	// socket of it has told, and before Linux 5.14.
	cookie atomic.Uint64
}

// netnsOf gives the inode number of a thread's network namespace.
func netnsOf(tid int) (uint64, error) {
	var st unix.Stat_t
	if err := unix.Stat(fmt.Sprintf("/proc/%d/ns/net", tid), &st); err != nil {
		return 0, fmt.Errorf("find the sandbox's network: %w", err)
	}
	return st.Ino, nil
}

// has reports whether a socket is of this namespace. The payload may hold one
// of another, if a program outside handed it on.
func (n *netns) has(sock int) bool {
	cookie, err := unix.GetsockoptUint64(sock, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
	if err != nil || cookie == 0 {
		return n.holds(sock)
	}
	if known := n.cookie.Load(); known != 0 {
		return known == cookie
	}
	if !n.holds(sock) {
		return false
	}
	n.cookie.Store(cookie)
	return true
}

// holds asks for the file of a socket's namespace, which is dear.
func (n *netns) holds(sock int) bool {
	const siocGetSocketNS = 0x894c // takes CAP_NET_ADMIN there (socket(7))
	fd, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(sock), siocGetSocketNS, 0)
	if errno != 0 {
		return false
	}
	defer unix.Close(int(fd))
	var st unix.Stat_t
	return unix.Fstat(int(fd), &st) == nil && st.Ino == n.ino
}
