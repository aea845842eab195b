//go:build unix

package proxy

import (
	"io"
	"syscall"
)

// socketReader reads a socket once the poller says it is readable.
type socketReader struct {
	raw  syscall.RawConn
	mem  *memory
	step func(fd uintptr) bool // made once: a closure a read would be garbage

	max int
	buf *[]byte
	n   int
	err error
}

func newLazyReader(s stream, mem *memory) lazyReader {
	c, ok := s.(syscall.Conn)
	if !ok {
		return &plainReader{r: s, mem: mem}
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return &plainReader{r: s, mem: mem}
	}
	r := &socketReader{raw: raw, mem: mem}
	r.step = r.read
	return r
}

func (r *socketReader) next(max int) (*[]byte, int, error) {
	r.max, r.buf, r.n, r.err = max, nil, 0, nil
	if err := r.raw.Read(r.step); err != nil {
		return nil, 0, err
	}
	if r.n == 0 && r.err == nil {
		r.err = io.EOF
	}
	return r.buf, r.n, r.err
}

// read tries once. False means that there is nothing yet: then the buffer goes
// back before the poller waits.
func (r *socketReader) read(fd uintptr) bool {
	buf := r.mem.buffer()
	for {
		n, err := syscall.Read(int(fd), (*buf)[:min(r.max, len(*buf))])
		switch err {
		case syscall.EINTR:
			continue
		case syscall.EAGAIN:
			r.mem.free(buf)
			return false
		case nil:
			r.buf, r.n = buf, n
		default:
			r.mem.free(buf)
			r.err = err
		}
		return true
	}
}

// waitReadable waits until a read would not block, holding nothing. It gives up
// at the read deadline.
func waitReadable(s stream) error {
	c, ok := s.(syscall.Conn)
	if !ok {
		return nil
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	return raw.Read(func(fd uintptr) bool { return pending(fd) })
}

// pending reports whether a read would not block: there are bytes, an end or an
// error to read.
func pending(fd uintptr) bool {
	var b [1]byte
	for {
		_, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		if err != syscall.EINTR {
			return err != syscall.EAGAIN
		}
	}
}

// stale reports whether an idle connection can no longer be used: the other
// side has ended it, or has said something nobody asked for.
func stale(s stream) bool {
	c, ok := socketOf(s).(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return true
	}
	dead := true
	if err := raw.Control(func(fd uintptr) { dead = pending(fd) }); err != nil {
		return true
	}
	return dead
}
