package sandbox

import (
	"bytes"
	"errors"
	"io"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Screen is the caller's terminal, as who asks the user something has it.
type Screen struct{ t *terminal }

// Screen gives the terminal that the run has, nil if it has none.
func (s *Sandbox) Screen() *Screen {
	if s.term == nil {
		return nil
	}
	return &Screen{s.term}
}

// Free reports whether a question can be put on the terminal now: this process
// may use it, and neither the payload nor who else has it has drawn all over it
// or reads it key by key.
func (s *Screen) Free() bool {
	t := s.t
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.in == nil || t.out == nil || t.master == nil || t.borrowed || t.revoked() || !t.foreground() {
		return false
	}
	// Of the payload's terminal: TCGETS of a master gives its other side's.
	mode, err := unix.IoctlGetTermios(int(t.master.Fd()), unix.TCGETS)
	if err != nil || mode.Lflag&unix.ICANON == 0 {
		return false
	}
	if !t.held {
		if mode, err = unix.IoctlGetTermios(t.any(), unix.TCGETS); err != nil || mode.Lflag&unix.ICANON == 0 {
			return false
		}
	}
	t.page.Lock()
	defer t.page.Unlock()
	return !t.drawn.alternate
}

// Notice rings the bell, where that is not taken for a part of something else.
func (s *Screen) Notice() {
	t := s.t
	if t.out == nil || !t.foreground() {
		return
	}
	t.page.Lock()
	defer t.page.Unlock()
	if t.drawn.between() {
		_ = writeAll(int(t.out.Fd()), []byte("\a")) // gone: nobody to hear it
	}
}

var errNotFree = errors.New("the terminal is not free")

// Page is a borrowed terminal. What the payload puts out waits meanwhile.
type Page struct {
	t      *terminal
	before unix.Termios
	line   []byte
	once   sync.Once
}

// Borrow takes the terminal from the payload and throws away what was typed.
func (s *Screen) Borrow() (*Page, error) {
	if !s.Free() {
		return nil, errNotFree
	}
	t := s.t
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.borrowed || t.revoked() {
		return nil, errNotFree
	}
	mode, err := unix.IoctlGetTermios(t.any(), unix.TCGETS)
	if err != nil {
		return nil, err
	}
	if t.held {
		t.hush()
		*mode = t.saved
	}
	p := &Page{t: t, before: *mode}
	t.page.Lock() // until Give
	asking := *mode
	asking.Iflag |= unix.ICRNL
	asking.Oflag |= unix.OPOST | unix.ONLCR
	asking.Lflag |= unix.ICANON | unix.ECHO | unix.ISIG
	asking.Cc[unix.VSUSP] = 0 // _POSIX_VDISABLE: a prompt cannot be put aside
	if err := t.set(&asking); err != nil {
		p.giveLocked()
		return nil, err
	}
	t.borrowed = true
	_ = unix.IoctlSetInt(t.any(), unix.TCFLSH, unix.TCIFLUSH) // nothing typed: nothing to flush
	return p, nil
}

// Write shows something.
func (p *Page) Write(b []byte) (int, error) {
	if err := writeAll(int(p.t.out.Fd()), b); err != nil {
		return 0, err
	}
	return len(b), nil
}

// ErrStopped is ReadLine's where stop has ended it.
var ErrStopped = errors.New("stopped")

// ReadLine gives a whole line that is typed, without its end. io.EOF is for an
// end of input, a payload that has ended, and a terminal that has gone.
func (p *Page) ReadLine(stop <-chan struct{}) (string, error) {
	buf := make([]byte, 4<<10)
	polls := []unix.PollFd{{Fd: int32(p.t.in.Fd()), Events: unix.POLLIN}}
	for {
		if i := bytes.IndexByte(p.line, '\n'); i >= 0 {
			line := string(p.line[:i])
			p.line = p.line[i+1:]
			return line, nil
		}
		select {
		case <-stop:
			return "", ErrStopped
		default:
		}
		if p.t.revoked() || len(p.line) > len(buf) {
			return "", io.EOF
		}
		polls[0].Revents = 0
		if n, err := unix.Poll(polls, 50); err != nil && !errors.Is(err, unix.EINTR) {
			return "", io.EOF
		} else if n <= 0 {
			continue
		}
		if !p.t.foreground() {
			return "", io.EOF // reading would stop this process
		}
		n, err := unix.Read(int(p.t.in.Fd()), buf)
		switch {
		case errors.Is(err, unix.EINTR), errors.Is(err, unix.EAGAIN):
		case err != nil || n <= 0:
			return "", io.EOF
		default:
			p.line = append(p.line, buf[:n]...)
		}
	}
}

// Give returns the terminal to the payload.
func (p *Page) Give() {
	p.once.Do(func() {
		p.t.mu.Lock()
		defer p.t.mu.Unlock()
		p.giveLocked()
	})
}

func (p *Page) giveLocked() {
	t := p.t
	t.borrowed = false
	later := t.takeLater
	t.takeLater = false
	switch {
	case t.held && t.foreground():
		if t.raw() == nil {
			_ = t.listen() // no pipe: the payload is not typed to
		}
	case t.foreground():
		_ = t.set(&p.before) // gone: nothing to restore
	}
	t.page.Unlock()
	if later && !t.held {
		go func() { _ = t.take() }() // it was wanted meanwhile
	}
}

// hush ends the reader of the terminal. It is called with the lock.
func (t *terminal) hush() {
	t.wake.Close()
	_ = t.master.SetWriteDeadline(time.Unix(1, 0)) // a payload that reads nothing must not hold this up
	select {
	case <-t.read:
	case <-time.After(time.Second): // another program has taken what poll(2) saw
	}
	_ = t.master.SetWriteDeadline(time.Time{})
}

// revoke ends a borrower's reading, for good.
func (t *terminal) revoke() {
	t.revoking.Do(func() { close(t.over) })
}

func (t *terminal) revoked() bool {
	select {
	case <-t.over:
		return true
	default:
		return false
	}
}
