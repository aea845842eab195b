package sandbox

import (
	"errors"
	"fmt"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/internal/event"
)

// What the kernel side of a run, if there is one, is told of the sandbox, and
// tells it.

// Describe says who a process is that waits for an answer, with its ancestors
// inside, nearest first; nil where it does not know.
type Describe func(pid int) (*event.Process, []event.Process)

// Stage1 gives stage 1, between Start and Launch a single process that waits.
// The descriptor is the caller's.
func (s *Sandbox) Stage1() (pid int, pidfd *os.File, err error) {
	<-s.handed
	s.cmd.mu.Lock()
	defer s.cmd.mu.Unlock()
	if s.cmd.dead {
		return 0, nil, errors.New("find stage 1: it has ended")
	}
	fd, err := unix.PidfdOpen(s.cmd.pid, 0) // not waited for: the pid is its own
	if err != nil {
		return 0, nil, fmt.Errorf("find stage 1: %w", err)
	}
	return s.cmd.pid, os.NewFile(uintptr(fd), "stage 1"), nil
}

// Root gives process 1 of the sandbox and its root folder, between Launch and
// Release.
func (s *Sandbox) Root() (pid int, root *os.File, err error) {
	tree := descendants(s.cmd.pid)
	for child, parent := range tree {
		if parent == s.cmd.pid && len(tree) == 1 {
			pid = child
		}
	}
	if pid == 0 {
		return 0, nil, fmt.Errorf("find process 1 of the sandbox: %d processes below bubblewrap, want 1", len(tree))
	}
	fd, err := unix.Open(fmt.Sprintf("/proc/%d/root", pid), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, nil, fmt.Errorf("open the sandbox's root: %w", err)
	}
	return pid, os.NewFile(uintptr(fd), "root"), nil
}

// Attribute makes d say who is behind refused system calls and connections. It
// comes before Release.
func (s *Sandbox) Attribute(d Describe) { s.describe = d }

// ConnectedBy says which process made a TCP connection by connect(2), exactly;
// nil where it was made otherwise. It tells once.
func (s *Sandbox) ConnectedBy(client, origin netip.AddrPort) (*event.Process, []event.Process) {
	who, ok := s.opened.take(client, origin)
	if !ok {
		return nil, nil
	}
	return who.process, who.ancestors
}

// End kills everything in the sandbox; Wait returns then.
func (s *Sandbox) End() { s.cmd.kill() }
