package sandbox

import (
	"bytes"
	"errors"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// copyOut goes on reading when nobody sees it any more, or the payload would
// block.
func (t *terminal) copyOut() {
	buf := make([]byte, 32<<10)
	seen := t.out != nil
	for {
		n, err := t.master.Read(buf)
		if n > 0 && seen {
			t.copied.Add(1)
			t.page.Lock()
			t.drawn.write(buf[:n])
			seen = writeAll(int(t.out.Fd()), t.lineEnds(buf[:n])) == nil
			t.page.Unlock()
			t.copied.Add(1)
		}
		if err != nil { // EIO: nobody has it open any more (pty(7))
			return
		}
	}
}

// settle waits until what the payload had written before it was stopped has
// been shown: the kernel passes it on in its own time (tty_flip_buffer_push).
func (t *terminal) settle() {
	poll := []unix.PollFd{{Fd: int32(t.master.Fd()), Events: unix.POLLIN}}
	last := t.copied.Load()
	for range 50 {
		time.Sleep(10 * time.Millisecond)
		n, _ := unix.Poll(poll, 0) // failed: nothing to wait for
		if now := t.copied.Load(); n <= 0 && now == last {
			return
		} else {
			last = now
		}
	}
}

// lineEnds takes away the carriage returns that the payload's terminal has put
// in, where this one, not being raw, puts them in again.
func (t *terminal) lineEnds(b []byte) []byte {
	const both = unix.OPOST | unix.ONLCR
	if mode, err := unix.IoctlGetTermios(t.any(), unix.TCGETS); err != nil || mode.Oflag&both != both {
		return b
	}
	return bytes.ReplaceAll(b, []byte("\r\n"), []byte("\n"))
}

// writeAll writes to a terminal, which another program may have made
// non-blocking for all who have it.
func writeAll(fd int, b []byte) error {
	for len(b) > 0 {
		n, err := unix.Write(fd, b)
		switch {
		case errors.Is(err, unix.EAGAIN):
			_, _ = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}, 1000)
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return err
		default:
			b = b[n:]
		}
	}
	return nil
}

// lines reads the lines that were typed before the terminal is raw: an end of
// input among them would then be read as a zero.
func (t *terminal) lines() []byte {
	var typed []byte
	poll := []unix.PollFd{{Fd: int32(t.in.Fd()), Events: unix.POLLIN}}
	for t.saved.Lflag&unix.ICANON != 0 && len(typed) < 64<<10 {
		if n, err := unix.Poll(poll, 0); err != nil || n == 0 || poll[0].Revents != unix.POLLIN {
			break
		}
		var line [4 << 10]byte
		n, err := unix.Read(int(t.in.Fd()), line[:])
		if err != nil {
			break
		}
		if n == 0 {
			line[0], n = t.saved.Cc[unix.VEOF], 1
		}
		typed = append(typed, line[:n]...)
	}
	return typed
}

// copyIn passes on what is typed until wake is closed at its other end.
func (t *terminal) copyIn(wake *os.File, typed []byte) {
	if _, err := t.master.Write(typed); err != nil {
		return
	}
	buf := make([]byte, 4<<10)
	polls := []unix.PollFd{{Fd: int32(t.in.Fd()), Events: unix.POLLIN}, {Fd: int32(wake.Fd()), Events: unix.POLLIN}}
	for {
		if _, err := unix.Poll(polls, -1); err != nil && !errors.Is(err, unix.EINTR) {
			return
		}
		if polls[1].Revents != 0 {
			return
		}
		if polls[0].Revents == 0 {
			continue
		}
		if !t.foreground() {
			return // reading would stop this process; what continues it takes the terminal again
		}
		n, err := unix.Read(int(t.in.Fd()), buf)
		if errors.Is(err, unix.EINTR) || errors.Is(err, unix.EAGAIN) {
			continue
		}
		if err != nil || n <= 0 {
			t.lost()
			return
		}
		if _, err := t.master.Write(buf[:n]); err != nil {
			return
		}
	}
}
