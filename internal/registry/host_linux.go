package registry

import (
	"bytes"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// peerUID is who connected (SO_PEERCRED, unix(7)).
func peerUID(c *net.UnixConn) (uid int, err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return -1, err
	}
	var cred *unix.Ucred
	if cerr := raw.Control(func(fd uintptr) { cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); cerr != nil {
		return -1, cerr
	}
	if err != nil {
		return -1, err
	}
	return int(cred.Uid), nil
}

// Here names this host as this process sees it; what /proc does not say is
// empty.
func Here() Host {
	boot, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	pids, _ := os.Readlink("/proc/self/ns/pid")
	return Host{BootID: string(bytes.TrimSuffix(boot, []byte("\n"))), PIDs: pids}
}
