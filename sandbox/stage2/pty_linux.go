package stage2

import (
	"fmt"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// PTYConfig tells stage 2 to make a terminal, and how the caller's was found.
type PTYConfig struct {
	Streams    [3]bool // those of the payload that are the terminal
	Foreground bool    // the payload starts in it
	Mode       unix.Termios
	Size       unix.Winsize
}

// pty is stage 2's view of the payload's terminal. Stage 2 leads the session
// and the payload has a process group of its own in it: a group whose parent is
// not in its session could not be stopped (orphaned, setpgid(2)).
type pty struct {
	fd    int // the payload's side
	saved int // the group that was in the foreground before it was taken away
}

// openPTY makes a terminal and makes it the controlling terminal and the
// standard streams of this process. The other side is for the supervisor.
func openPTY(c *PTYConfig) (p *pty, master int, err error) {
	fd, master, err := makePTY(c)
	if err != nil {
		return nil, -1, err
	}
	p = &pty{fd: fd}
	return p, master, p.adopt(c)
}

// makePTY makes a pseudo terminal in the sandbox's own devpts.
func makePTY(c *PTYConfig) (fd, master int, err error) {
	master, err = unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, -1, fmt.Errorf("open /dev/ptmx: %w", err)
	}
	if fd, err = otherSide(master, c); err != nil {
		unix.Close(master)
		return -1, -1, err
	}
	return fd, master, nil
}

// otherSide opens and sets what programs are to use.
func otherSide(master int, c *PTYConfig) (int, error) {
	if err := unix.IoctlSetPointerInt(master, unix.TIOCSPTLCK, 0); err != nil {
		return -1, fmt.Errorf("unlock terminal: %w", err)
	}
	n, err := unix.IoctlGetInt(master, unix.TIOCGPTN)
	if err != nil {
		return -1, fmt.Errorf("name terminal: %w", err)
	}
	// By its name, so that ttyname(3) inside finds it.
	name := fmt.Sprintf("/dev/pts/%d", n)
	fd, err := unix.Open(name, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("open %s: %w", name, err)
	}
	if err := unix.IoctlSetTermios(fd, unix.TCSETS, &c.Mode); err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("set terminal: %w", err)
	}
	if err := unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &c.Size); err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("set terminal size: %w", err)
	}
	return fd, nil
}

func (p *pty) adopt(c *PTYConfig) error {
	if _, err := unix.Setsid(); err != nil {
		return fmt.Errorf("lead a session: %w", err)
	}
	if err := unix.IoctlSetInt(p.fd, unix.TIOCSCTTY, 0); err != nil {
		return fmt.Errorf("take terminal: %w", err)
	}
	for i, yes := range c.Streams {
		if yes {
			if err := unix.Dup3(p.fd, i, 0); err != nil {
				return fmt.Errorf("set %s: %w", StreamNames[i], err)
			}
		}
	}
	return nil
}

// attributes give the payload a process group, in the foreground if so wished.
func (p *pty) attributes(c *PTYConfig) *syscall.SysProcAttr {
	if p == nil {
		return &syscall.SysProcAttr{Setpgid: true}
	}
	return &syscall.SysProcAttr{Setpgid: true, Foreground: c.Foreground, Ctty: p.fd}
}

// foreground gives the terminal to the payload's side or takes it away: what
// reads it then is stopped, which the supervisor hears of. claim is for the
// payload itself, which was stopped because it is not in the foreground.
func (p *pty) foreground(payload int, yes, claim bool) {
	own, now := unix.Getpgrp(), p.group()
	switch {
	case !yes && now != own:
		p.saved = now
		p.setGroup(own)
	case !yes:
	case claim || now == own && p.saved == 0:
		p.setGroup(payload)
	case now == own:
		p.setGroup(p.saved)
	}
}

func (p *pty) group() int {
	n, err := unix.IoctlGetInt(p.fd, unix.TIOCGPGRP)
	if err != nil {
		return 0
	}
	return n
}

// setGroup blocks SIGTTOU meanwhile, or a process in the background would not
// be let (tcsetpgrp(3)). It is not ignored: the payload would inherit that.
func (p *pty) setGroup(group int) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var old, block unix.Sigset_t
	block.Val[0] = 1 << (unix.SIGTTOU - 1)
	if unix.PthreadSigmask(unix.SIG_BLOCK, &block, &old) != nil {
		return
	}
	_ = unix.IoctlSetPointerInt(p.fd, unix.TIOCSPGRP, group) // ESRCH: the group has just ended
	_ = unix.PthreadSigmask(unix.SIG_SETMASK, &old, nil)
}
