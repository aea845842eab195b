package sandbox

import (
	"errors"
	"fmt"
	"runtime"
	"time"

	"github.com/sallyport/sallyport/internal/plan"
)

// listen takes the listener of the payload's filter from stage 2, and returns
// when it answers.
func (s *Sandbox) listen() error {
	m, err := s.next()
	if err != nil {
		return err
	}
	fd := s.rights.Take()
	if m.Listener == nil || fd < 0 {
		closeFD(fd)
		return errors.New("start stage 2: it sent no seccomp listener")
	}
	arch, err := plan.ParseArch(runtime.GOARCH)
	if err != nil {
		return err
	}
	dirs := append([]string{"/tmp", "/run", "/dev", "/dev/shm"}, s.plan.RuntimeDir)
	s.calls = newListener(fd, s.plan.Seccomp, arch, &inside{dirs: dirs, decide: s.plan.DecideUnix}, s.emit)
	s.calls.restarts, s.calls.opened = !m.Listener.Killable, s.opened
	s.calls.callers.describe = s.describe
	go s.calls.serve()
	select {
	case err = <-s.calls.ready:
	case <-time.After(startTimeout):
		err = errors.New("no system call arrived")
	}
	if err != nil {
		return fmt.Errorf("answer refused system calls: %w", err)
	}
	return nil
}
