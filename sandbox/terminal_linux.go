package sandbox

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/sandbox/stage2"
)

// terminal is the caller's. The payload never has it: it has one of the
// sandbox's own, and this one's bytes are copied to and from that.
//
// While it is held, it is raw, so that every key reaches the payload's terminal,
// which knows what to do with Ctrl-C. It is held from the start only where both
// standard input and standard output are the terminal; in a pipeline another
// program may be reading it, so that it is taken when the payload asks, by
// reading or setting its own.
type terminal struct {
	streams [3]bool
	eager   bool
	behind  bool     // the payload has never been in the foreground
	in, out *os.File // nil: it cannot be read, written
	own     *os.File // /dev/tty, where in or out had to be opened
	saved   unix.Termios
	master  *os.File
	lost    func()        // called when there is no more to read
	written chan struct{} // closed: all that came has been written
	copied  atomic.Uint64 // grows before and after each piece of it

	mu    sync.Mutex
	held  bool
	wake  *os.File      // closed: the reader of the terminal ends
	read  chan struct{} // closed: it has ended
	typed []byte        // read before it was raw
	// borrowed: who asks the user has it. takeLater: it was to be taken then.
	borrowed, takeLater bool

	page  sync.Mutex // of what is shown: held by a borrower
	drawn drawn      // what the payload has shown

	revoking sync.Once
	over     chan struct{} // closed: it is not lent any more
}

// findTerminal says which streams are a terminal, nil if none is.
func findTerminal(files [3]*os.File) (*terminal, error) {
	t := &terminal{over: make(chan struct{})}
	for i, f := range files {
		if mode, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS); err == nil {
			t.streams[i], t.saved = true, *mode
		}
	}
	if t.streams == [3]bool{} {
		return nil, nil
	}
	t.eager = t.streams[0] && t.streams[1]
	for _, i := range []int{0, 1, 2} {
		if t.in == nil && t.streams[i] && canOpen(files[i], unix.O_WRONLY) {
			t.in = files[i]
		}
	}
	for _, i := range []int{1, 2, 0} {
		if t.out == nil && t.streams[i] && canOpen(files[i], unix.O_RDONLY) {
			t.out = files[i]
		}
	}
	return t, t.complete()
}

// canOpen says whether a descriptor is open for more than one purpose.
func canOpen(f *os.File, only int) bool {
	flags, err := unix.FcntlInt(f.Fd(), unix.F_GETFL, 0)
	return err == nil && flags&unix.O_ACCMODE != only
}

// complete opens what the streams do not give: a payload whose only terminal is
// standard error can read it too.
func (t *terminal) complete() error {
	if t.in != nil && t.out != nil {
		return nil
	}
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return nil // no controlling terminal: it is read or written only
	}
	t.own = tty
	if t.in == nil {
		t.in = tty
	}
	if t.out == nil {
		t.out = tty
	}
	return nil
}

// any is one to ask and set it by.
func (t *terminal) any() int {
	if t.in != nil {
		return int(t.in.Fd())
	}
	return int(t.out.Fd())
}

// config is what the payload's terminal begins as.
func (t *terminal) config() *stage2.PTYConfig {
	if t == nil {
		return nil
	}
	c := &stage2.PTYConfig{Streams: t.streams, Foreground: t.eager && t.foreground(), Mode: t.saved}
	if size, err := unix.IoctlGetWinsize(t.any(), unix.TIOCGWINSZ); err == nil {
		c.Size = *size
	}
	t.behind = !c.Foreground
	return c
}

// foreground says whether this process may use the terminal. One that it has no
// job control over, since it is not its controlling one, it may.
func (t *terminal) foreground() bool {
	group, err := unix.IoctlGetInt(t.any(), unix.TIOCGPGRP)
	return err != nil || group == unix.Getpgrp()
}

// adopt takes the supervisor's side of the payload's terminal.
func (t *terminal) adopt(master int) error {
	switch {
	case t == nil && master < 0:
		return nil
	case t == nil || master < 0:
		return errors.New("make a terminal for the command: stage 2 did not do as it was told")
	}
	t.master = os.NewFile(uintptr(master), "terminal")
	return nil
}

// start is show and begin.
func (t *terminal) start(lost func()) error {
	t.show(lost)
	return t.begin()
}

// show copies what the payload's terminal puts out, until it is hung up.
func (t *terminal) show(lost func()) {
	if t == nil {
		return
	}
	t.lost, t.written = lost, make(chan struct{})
	go func() {
		defer close(t.written)
		defer t.restoreOnPanic()
		t.copyOut()
	}()
}

// begin takes the terminal where the payload starts with it. There must be a
// payload by then: its terminal throws a Ctrl-C away that comes before there is
// anybody in its foreground. One that is typed before this is a SIGINT of this
// process's.
func (t *terminal) begin() error {
	if t == nil || !t.eager || !t.foreground() {
		return nil
	}
	return t.take()
}

// resize passes the size on; the payload is told by SIGWINCH.
func (t *terminal) resize() {
	size, err := unix.IoctlGetWinsize(t.any(), unix.TIOCGWINSZ)
	if err == nil && t.master != nil {
		_ = unix.IoctlSetWinsize(int(t.master.Fd()), unix.TIOCSWINSZ, size) // hung up: nobody to tell
	}
}

// take makes the terminal raw and begins to read it.
func (t *terminal) take() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.in == nil {
		return nil
	}
	if t.borrowed {
		t.takeLater = true
		return nil
	}
	if t.held { // a shell may have set it meanwhile
		if err := t.raw(); err != nil {
			return err
		}
		select {
		case <-t.read:
			t.wake.Close()
			return t.listen()
		default:
			return nil
		}
	}
	mode, err := unix.IoctlGetTermios(t.any(), unix.TCGETS)
	if err != nil {
		return fmt.Errorf("read terminal's settings: %w", err)
	}
	t.saved = *mode
	if t.behind {
		// What it began with may have been the shell's, of its own prompt.
		_ = unix.IoctlSetTermios(int(t.master.Fd()), unix.TCSETS, mode) // hung up: nothing to set
		t.behind = false
	}
	t.typed = t.lines()
	if err := t.raw(); err != nil {
		return err
	}
	if err := t.listen(); err != nil {
		_ = t.set(&t.saved) // the first error is the one to tell
		return err
	}
	t.held = true
	return nil
}

// listen begins to read the terminal.
func (t *terminal) listen() error {
	r, w, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("make pipe: %w", err)
	}
	ended := make(chan struct{})
	t.wake, t.read = w, ended
	typed := t.typed
	t.typed = nil
	go func() {
		defer close(ended)
		defer r.Close()
		defer t.restoreOnPanic()
		t.copyIn(r, typed)
	}()
	return nil
}

func (t *terminal) isHeld() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.held
}

// raw is cfmakeraw(3): the payload's terminal does what this one leaves.
func (t *terminal) raw() error {
	mode := t.saved
	mode.Iflag &^= unix.IGNBRK | unix.BRKINT | unix.PARMRK | unix.ISTRIP | unix.INLCR | unix.IGNCR | unix.ICRNL | unix.IXON
	mode.Oflag &^= unix.OPOST
	mode.Lflag &^= unix.ECHO | unix.ECHONL | unix.ICANON | unix.ISIG | unix.IEXTEN
	mode.Cflag = mode.Cflag&^(unix.CSIZE|unix.PARENB) | unix.CS8
	mode.Cc[unix.VMIN], mode.Cc[unix.VTIME] = 1, 0
	return t.set(&mode)
}

// set waits for what has been written and throws nothing away that was typed.
func (t *terminal) set(mode *unix.Termios) error {
	for {
		err := unix.IoctlSetTermios(t.any(), unix.TCSETSW, mode)
		if err == nil {
			return nil
		}
		if !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("set terminal: %w", err)
		}
	}
}

// give leaves the terminal as it was found. In the background it is not this
// process's to set.
func (t *terminal) give() {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.held {
		return
	}
	t.held = false
	if !t.borrowed {
		t.hush()
	}
	if t.foreground() {
		_ = t.set(&t.saved) // gone: nothing to restore
	}
}

// restoreOnPanic keeps a fault of this program's from leaving a raw terminal.
func (t *terminal) restoreOnPanic() {
	if r := recover(); r != nil {
		_ = t.set(&t.saved)
		panic(r)
	}
}

// wait returns when all that the payload has written is on the terminal, which
// is as it was found then.
func (t *terminal) wait() {
	if t == nil || t.written == nil {
		return
	}
	t.revoke()
	<-t.written
	t.give()
}

func (t *terminal) close() {
	if t == nil {
		return
	}
	t.revoke()
	t.give()
	if t.master != nil {
		t.master.Close()
	}
	if t.own != nil {
		t.own.Close()
	}
}

// HasTerminal reports whether the payload has a terminal, in the place of the
// caller's.
func (s *Sandbox) HasTerminal() bool { return s.term != nil }
