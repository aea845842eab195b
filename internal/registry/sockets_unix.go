//go:build linux || darwin

package registry

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
)

// maxPath is what every system's socket addresses hold (unix(7): 108 with its
// end; 104 on macOS).
const maxPath = 103

var errTooLong = errors.New("the name of its directory is too long for a socket")

// withShort gives f a name of the path that fits into a socket's address: seen
// from its own directory, where this system has a way to say so.
func withShort(path string, f func(name string) error) error {
	if len(path) <= maxPath {
		return f(path)
	}
	if _, err := os.Stat("/proc/self/fd"); err != nil {
		return errTooLong
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer dir.Close()
	return f(fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), filepath.Base(path)))
}

func listenAt(path string) (l *net.UnixListener, err error) {
	err = withShort(path, func(name string) error {
		l, err = net.ListenUnix("unix", &net.UnixAddr{Name: name, Net: "unix"})
		if err == nil {
			l.SetUnlinkOnClose(false) // by its own name, later
		}
		return err
	})
	if err != nil {
		return nil, &os.PathError{Op: "listen at", Path: path, Err: err}
	}
	return l, nil
}

// dialAt gives a connection as a file that blocks.
func dialAt(path string) (f *os.File, err error) {
	err = withShort(path, func(name string) error {
		c, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: name, Net: "unix"})
		if err != nil {
			return err
		}
		defer c.Close()
		f, err = c.File()
		return err
	})
	if err != nil {
		return nil, &os.PathError{Op: "connect to", Path: path, Err: err}
	}
	return f, nil
}
