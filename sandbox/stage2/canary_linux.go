package stage2

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// prove fails unless what should hold this process does.
func (c Canary) prove() error {
	at := &unix.SockaddrInet4{Port: c.Port, Addr: c.Addr}
	if c.Refused != "" {
		if err := c.provoke(at); err != nil {
			return err
		}
	}
	return c.connect(at)
}

// connect proves that a connection from here ends at the proxy.
func (c Canary) connect(at *unix.SockaddrInet4) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	conn := os.NewFile(uintptr(fd), "canary")
	defer conn.Close()
	for _, option := range []int{unix.SO_SNDTIMEO, unix.SO_RCVTIMEO} { // connecting counts as sending (socket(7))
		if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, option, &unix.Timeval{Sec: 5}); err != nil {
			return err
		}
	}
	if err := unix.Connect(fd, at); err != nil {
		return fmt.Errorf("connect %v:%d: %w", at.Addr, at.Port, err)
	}
	if _, err := conn.Write(c.Token[:]); err != nil {
		return err
	}
	var got [sha256.Size]byte
	if _, err := io.ReadFull(conn, got[:]); err != nil {
		return fmt.Errorf("no answer from the proxy: %w", err)
	}
	if got != sha256.Sum256(c.Token[:]) {
		return errors.New("the answer is not the proxy's")
	}
	return nil
}

// provoke proves that the cgroup's programs hold this process, by a datagram's
// destination that nothing else refuses before it is sent; and has a system call
// refused, of which the record must arrive.
func (c Canary) provoke(at *unix.SockaddrInet4) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.Connect(fd, at); !errors.Is(err, unix.EPERM) {
		return fmt.Errorf("the kernel's programs do not hold the sandbox: a datagram's destination is refused with %v, want %w", err, unix.EPERM)
	}
	for i := range provoked { // of different names, or they would be one record
		name := fmt.Sprint(c.Refused, "-", i)
		switch err := unix.Mkdirat(unix.AT_FDCWD, name, 0o700); err {
		case unix.EACCES, unix.EPERM, unix.EROFS:
		default:
			return fmt.Errorf("make %s: %v, want a refusal", name, err)
		}
	}
	return nil
}

// provoked is how often: a kernel may leave a run of a program out, if that runs
// on the same CPU already. It counts these.
const provoked = 3
