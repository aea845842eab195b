package sandbox

import (
	"fmt"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// child is a process of ours. Package os has none that runs a program; it also
// makes a process of its own at its first start, to find out about pidfds.
type child struct {
	pid  int
	mu   sync.Mutex
	dead bool // waited for: the pid may be another's by now
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
