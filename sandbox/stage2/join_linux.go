package stage2

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// joiners are the programs that stage 2 starts beside the payload, when the
// supervisor asks for it. They come from the thread that the payload came from,
// and so from the same filter and the same Landlock domain; nothing joins a
// sandbox from outside.
type joiners struct {
	tasks chan func() // in order, for the confined thread

	mu      sync.Mutex // held while one is started: none ends before it has begun
	numbers map[int]int
}

// maxJoining bounds those that wait to be started.
const maxJoining = 64

func newJoiners() joiners {
	return joiners{tasks: make(chan func(), maxJoining), numbers: map[int]int{}}
}

// serve never returns.
func (j *joiners) serve() {
	for task := range j.tasks {
		task()
	}
}

// signal reaches a program's process group, if it has not ended. It takes its
// turn: what is to end may not have begun.
func (j *joiners) signal(number int, sig unix.Signal) {
	j.tasks <- func() {
		j.mu.Lock()
		defer j.mu.Unlock()
		for pid, n := range j.numbers {
			if n == number {
				_ = unix.Kill(-pid, sig) // ESRCH: it has just ended
			}
		}
	}
}

// join has a program started; what came with the command are its streams.
func (p *initProcess) join(c *Exec) {
	fds := p.rights.TakeStreams()
	p.joined.tasks <- func() {
		err := p.joinNow(c, fds)
		for _, fd := range fds {
			unix.Close(fd)
		}
		if err == nil {
			return
		}
		m := Message{Of: c.ID, Err: err.Error(), Code: 125}
		var e *Error
		if errors.As(err, &e) {
			m.Hint, m.Code = e.Hint, e.Status
		}
		_ = p.say(m) // nobody is left to tell if this fails
	}
}

// joinNow runs on the confined thread.
func (p *initProcess) joinNow(c *Exec, fds []int) error {
	if len(fds) != 3 {
		return fmt.Errorf("execute %s: %d streams came", c.Argv[0], len(fds))
	}
	master := -1
	attr := &syscall.SysProcAttr{Setsid: true}
	if c.PTY != nil {
		fd, m, err := makePTY(c.PTY)
		if err != nil {
			return fmt.Errorf("make a terminal for the command: %w", err)
		}
		defer unix.Close(fd)
		defer unix.Close(m)
		master = m
		c.PTY.replace(fds, fd, attr)
	}
	if err := ownNull(fds); err != nil {
		return err
	}
	exe, err := lookPathIn(string(c.Dir), c.Argv[0], c.Env)
	if err != nil {
		return err
	}
	return p.startJoined(c, exe, fds, attr, master)
}

// startJoined holds the lock until it has told of the beginning: that of the end
// comes after it.
func (p *initProcess) startJoined(c *Exec, exe string, fds []int, attr *syscall.SysProcAttr, master int) error {
	p.joined.mu.Lock()
	defer p.joined.mu.Unlock()
	pid, err := syscall.ForkExec(exe, c.Argv, &syscall.ProcAttr{
		Dir: string(c.Dir), Env: c.Env, Files: []uintptr{uintptr(fds[0]), uintptr(fds[1]), uintptr(fds[2])}, Sys: attr,
	})
	if err != nil {
		return &Error{Err: fmt.Errorf("execute %s: %w", exe, err), Status: 126}
	}
	p.joined.numbers[pid] = c.ID
	if master < 0 {
		return p.say(Message{Of: c.ID, PID: pid})
	}
	p.sending.Lock()
	defer p.sending.Unlock()
	return SendWith(p.control, Message{Of: c.ID, PID: pid, Terminal: true}, master)
}

// joinedEnded tells of the end of a program that has joined; other children of
// process 1 are nobody's.
func (p *initProcess) joinedEnded(pid int, ws unix.WaitStatus) {
	if ws.Stopped() {
		return
	}
	p.joined.mu.Lock()
	number := p.joined.numbers[pid]
	delete(p.joined.numbers, pid)
	p.joined.mu.Unlock()
	if number != 0 {
		_ = p.say(Message{Of: number, Exit: exitStatus(ws)}) // nobody is left to tell if this fails
	}
}

// replace puts the terminal in the place of those streams that are the caller's,
// and makes it the controlling one.
func (c *PTYConfig) replace(fds []int, fd int, attr *syscall.SysProcAttr) {
	for i, yes := range c.Streams {
		if !yes {
			continue
		}
		attr.Setctty, attr.Ctty = true, i
		if unix.Dup3(fd, fds[i], unix.O_CLOEXEC) != nil {
			fds[i] = -1 // cannot be: both are open
		}
	}
}

// ownNull puts the sandbox's /dev/null in the place of the host's, which could
// not be opened again by name (/dev/stdout) for writing.
func ownNull(fds []int) error {
	for _, fd := range fds {
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err != nil {
			return fmt.Errorf("look at a stream: %w", err)
		}
		if st.Mode&unix.S_IFMT != unix.S_IFCHR || st.Rdev != unix.Mkdev(1, 3) {
			continue
		}
		null, err := unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("open /dev/null: %w", err)
		}
		err = unix.Dup3(null, fd, unix.O_CLOEXEC)
		unix.Close(null)
		if err != nil {
			return fmt.Errorf("set a stream: %w", err)
		}
	}
	return nil
}

// lookPathIn finds a program as it is inside, from its working directory.
func lookPathIn(dir, name string, env []string) (string, error) {
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFDIR {
		if err == nil {
			err = unix.ENOTDIR
		}
		return "", &Error{Err: fmt.Errorf("enter working directory %s: %w", dir, err), Status: 125,
			Hint: "name a directory that the sandbox can see: --chdir DIR"}
	}
	if err := ownPath(env); err != nil {
		return "", err
	}
	if strings.Contains(name, "/") && !filepath.IsAbs(name) {
		name = filepath.Join(dir, name)
	}
	return lookPath(name)
}
