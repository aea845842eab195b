package registry

import (
	"net"

	"golang.org/x/sys/unix"
)

// peerUID is who connected (LOCAL_PEERCRED, unix(4)).
func peerUID(c *net.UnixConn) (uid int, err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return -1, err
	}
	var cred *unix.Xucred
	if cerr := raw.Control(func(fd uintptr) { cred, err = unix.GetsockoptXucred(int(fd), unix.SOL_LOCAL, unix.LOCAL_PEERCRED) }); cerr != nil {
		return -1, cerr
	}
	if err != nil {
		return -1, err
	}
	return int(cred.Uid), nil
}

// Here names this host; what the kernel does not say is empty.
func Here() Host {
	boot, _ := unix.Sysctl("kern.bootsessionuuid")
	return Host{BootID: boot}
}
