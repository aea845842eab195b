package sandbox

import (
	"fmt"
	"os"
	"runtime"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// child is a process of ours. It is started by the system call and not through
// package os, which at its first start makes a process of its own to find out
// about pidfds: 1.5 ms of a run.
type child struct {
	path  string
	args  []string
	env   []string
	files []*os.File // its descriptors, from 0 on
	attr  *syscall.SysProcAttr

	pid  int
	mu   sync.Mutex
	dead bool // waited for: the pid may be another's by now
}

func (c *child) start() error {
	fds := make([]uintptr, len(c.files))
	for i, f := range c.files {
		fds[i] = f.Fd()
	}
	pid, err := syscall.ForkExec(c.path, c.args, &syscall.ProcAttr{Env: c.env, Files: fds, Sys: c.attr})
	runtime.KeepAlive(c.files)
	if err != nil {
		return &os.PathError{Op: "execute", Path: c.path, Err: err}
	}
	c.pid = pid
	return nil
}

// wait returns when the child has ended, with an error unless it exited with 0.
func (c *child) wait() error {
	for { // it stays a zombie, and its pid its own, until the lock is held
		var info unix.Siginfo
		if err := unix.Waitid(unix.P_PID, c.pid, &info, unix.WEXITED|unix.WNOWAIT, nil); err != unix.EINTR {
			break
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	var status syscall.WaitStatus
	_, err := syscall.Wait4(c.pid, &status, 0, nil)
	c.dead = true
	switch {
	case err != nil:
		return fmt.Errorf("wait for process %d: %w", c.pid, err)
	case status.Signaled():
		return fmt.Errorf("killed by signal %d (%s)", status.Signal(), status.Signal())
	case status.ExitStatus() != 0:
		return fmt.Errorf("exit status %d", status.ExitStatus())
	}
	return nil
}

// kill ends the child, if it has not ended.
func (c *child) kill() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.dead {
		_ = syscall.Kill(c.pid, syscall.SIGKILL) // a zombie: nothing to kill
	}
}
