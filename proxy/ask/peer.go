package ask

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
)

// errPeer is why a program is not heard.
var errPeer = errors.New("refused")

// checkPeer hears programs of the same user alone, and none that runs in a
// sandbox: it would answer its own questions. Where a sandbox is let to a unix
// socket, it is this process that connects for it.
func checkPeer(c net.Conn) error {
	uid, pid, err := peerOf(c)
	switch {
	case err != nil:
		return fmt.Errorf("look who connects: %w", err)
	case uid != os.Geteuid():
		return fmt.Errorf("%w: user %d", errPeer, uid)
	case pid == os.Getpid() && !selfAllowed:
		return fmt.Errorf("%w: it comes from a sandbox", errPeer)
	}
	return checkOutside(pid)
}

// selfAllowed is set by tests, which are client and server.
var selfAllowed bool

// maxSocketPath is what every system's socket addresses hold (unix(7): 108 with
// its end; 104 on macOS).
const maxSocketPath = 103

// short gives a name for a path that fits into an address: seen from its own
// directory, where this system has a way to say so.
func shortPath(path string, f func(name string) error) error {
	if len(path) <= maxSocketPath {
		return f(path)
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer dir.Close()
	if _, err := os.Stat("/proc/self/fd"); err != nil {
		return fmt.Errorf("%s is too long for a socket", path)
	}
	return f(fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), filepath.Base(path)))
}

func listenUnix(path string) (l net.Listener, err error) {
	err = shortPath(path, func(name string) error {
		l, err = net.ListenUnix("unix", &net.UnixAddr{Name: name, Net: "unix"})
		if err == nil {
			l.(*net.UnixListener).SetUnlinkOnClose(false) // by its own name, later
		}
		return err
	})
	return l, err
}

func dialUnix(path string) (c net.Conn, err error) {
	err = shortPath(path, func(name string) error {
		c, err = net.DialUnix("unix", nil, &net.UnixAddr{Name: name, Net: "unix"})
		return err
	})
	return c, err
}
