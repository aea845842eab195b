//go:build linux || darwin

package ask

import (
	"bytes"
	"errors"
	"io"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// TTY is the terminal that this process belongs to, where the command has none
// in its place.
type TTY struct{ fd int }

// OpenTTY opens it. It is nil where there is none, and where another program has
// it: then nobody is there who could be asked.
func OpenTTY() *TTY {
	// Opened anew, so that not to wait is this descriptor's alone.
	fd, err := unix.Open("/dev/tty", unix.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	t := &TTY{fd}
	if !t.Free() {
		t.Close()
		return nil
	}
	return t
}

// Close is for when nobody asks on it any more.
func (t *TTY) Close() { unix.Close(t.fd) }

// Free reports whether this process may use it, and nobody reads it key by key.
func (t *TTY) Free() bool {
	mode, err := unix.IoctlGetTermios(t.fd, getTermios)
	return err == nil && mode.Lflag&unix.ICANON != 0 && t.foreground()
}

func (t *TTY) foreground() bool {
	group, err := unix.IoctlGetInt(t.fd, unix.TIOCGPGRP)
	return err == nil && group == unix.Getpgrp()
}

// Borrow takes it for a question.
func (t *TTY) Borrow() (Page, error) {
	before, err := unix.IoctlGetTermios(t.fd, getTermios)
	if err != nil {
		return nil, err
	}
	asking := *before
	asking.Iflag |= unix.ICRNL
	asking.Oflag |= unix.OPOST | unix.ONLCR
	asking.Lflag |= unix.ICANON | unix.ECHO | unix.ISIG
	if err := unix.IoctlSetTermios(t.fd, setTermiosFlush, &asking); err != nil {
		return nil, err
	}
	return &ttyPage{t: t, before: *before}, nil
}

type ttyPage struct {
	t      *TTY
	before unix.Termios
	line   []byte
}

func (p *ttyPage) Write(b []byte) (n int, err error) {
	for n < len(b) {
		m, err := unix.Write(p.t.fd, b[n:])
		switch {
		case errors.Is(err, syscall.EAGAIN), errors.Is(err, syscall.EINTR):
			time.Sleep(10 * time.Millisecond)
		case err != nil:
			return n, err
		default:
			n += m
		}
	}
	return n, nil
}

// ReadLine looks again and again: poll(2) does not know terminals on every
// system.
func (p *ttyPage) ReadLine(stop <-chan struct{}) (string, error) {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	buf := make([]byte, 4<<10)
	for {
		if i := bytes.IndexByte(p.line, '\n'); i >= 0 {
			line := string(p.line[:i])
			p.line = p.line[i+1:]
			return line, nil
		}
		if !p.t.foreground() || len(p.line) > len(buf) {
			return "", io.EOF
		}
		n, err := unix.Read(p.t.fd, buf)
		switch {
		case n > 0:
			p.line = append(p.line, buf[:n]...)
			continue
		case err == nil:
			return "", io.EOF
		case !errors.Is(err, syscall.EAGAIN) && !errors.Is(err, syscall.EINTR):
			return "", err
		}
		select {
		case <-stop:
			return "", ErrStopped
		case <-tick.C:
		}
	}
}

func (p *ttyPage) Give() {
	if p.t.foreground() {
		_ = unix.IoctlSetTermios(p.t.fd, setTermiosFlush, &p.before) // gone: nothing to restore
	}
}
