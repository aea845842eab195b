//go:build unix

package sallyport

import (
	"os"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// hangUps tells the two meanings of SIGHUP apart: the terminal has gone, which
// is the command's to know; or somebody wants the policy to be read anew, as of
// any daemon.
type hangUps struct {
	terminal bool // there was one at the start
	ignored  bool // by nohup(1): then the command does not want to know
}

// newHangUps must be called before SIGHUP is caught.
func newHangUps() hangUps {
	return hangUps{terminal: haveTerminal(), ignored: signal.Ignored(syscall.SIGHUP)}
}

// The kernel sends the signal before it takes the terminal away from a session
// whose leader ends (disassociate_ctty in drivers/tty/tty_jobctrl.c), and a
// shell that ends sends it before it does.
const (
	hangUpPatience = 200 * time.Millisecond
	hangUpStep     = 10 * time.Millisecond
)

// gone reports, after a SIGHUP, whether the terminal has gone.
func (h hangUps) gone() bool {
	if !h.terminal {
		return false
	}
	for end := time.Now().Add(hangUpPatience); time.Now().Before(end); time.Sleep(hangUpStep) {
		if !haveTerminal() {
			return true
		}
	}
	return false
}

// haveTerminal reports whether this process has a controlling terminal that has
// not been hung up.
func haveTerminal() bool {
	f, err := os.OpenFile("/dev/tty", os.O_RDWR|syscall.O_NOCTTY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return false
	}
	defer f.Close()
	_, err = unix.IoctlGetInt(int(f.Fd()), unix.TIOCGPGRP)
	return err == nil
}
