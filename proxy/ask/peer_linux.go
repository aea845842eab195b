package ask

import (
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// peerOf is who connected (SO_PEERCRED, unix(7)).
func peerOf(c net.Conn) (uid, pid int, err error) {
	raw, err := c.(*net.UnixConn).SyscallConn()
	if err != nil {
		return 0, 0, err
	}
	var cred *unix.Ucred
	cerr := raw.Control(func(fd uintptr) { cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
	if cerr != nil || err != nil {
		return 0, 0, fmt.Errorf("peer: %v, %w", cerr, err)
	}
	return int(cred.Uid), int(cred.Pid), nil
}

// checkOutside refuses a process of another user namespace: a sandbox has its
// own. One that has ended says nothing any more.
func checkOutside(pid int) error {
	ours, err := os.Readlink("/proc/self/ns/user")
	if err != nil {
		return err
	}
	theirs, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/user", pid))
	if err != nil || ours != theirs {
		return fmt.Errorf("%w: process %d is not outside", errPeer, pid)
	}
	return nil
}
