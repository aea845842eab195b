package registry

import (
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// maxPath is what a socket's address can hold, its end included (unix(7)).
const maxPath = 108

// withShort gives f a name of the path that fits into a socket's address.
func withShort(path string, f func(name string) error) error {
	if len(path) < maxPath {
		return f(path)
	}
	dir, err := unix.Open(filepath.Dir(path), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(dir)
	return f(fmt.Sprintf("/proc/self/fd/%d/%s", dir, filepath.Base(path)))
}

func listenAt(path string) (int, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("make socket: %w", err)
	}
	err = withShort(path, func(name string) error { return unix.Bind(fd, &unix.SockaddrUnix{Name: name}) })
	if err == nil {
		err = unix.Listen(fd, 16)
	}
	if err != nil {
		unix.Close(fd)
		return -1, &os.PathError{Op: "listen at", Path: path, Err: err}
	}
	return fd, nil
}

func dialAt(path string) (int, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("make socket: %w", err)
	}
	err = withShort(path, func(name string) error { return unix.Connect(fd, &unix.SockaddrUnix{Name: name}) })
	if err != nil {
		unix.Close(fd)
		return -1, &os.PathError{Op: "connect to", Path: path, Err: err}
	}
	return fd, nil
}

// peerUID is who connected (SO_PEERCRED, unix(7)).
func peerUID(fd int) (int, error) {
	cred, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
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
	return Host{BootID: string(trimNewline(boot)), PIDs: pids}
}

func trimNewline(b []byte) []byte {
	if n := len(b); n > 0 && b[n-1] == '\n' {
		return b[:n-1]
	}
	return b
}
