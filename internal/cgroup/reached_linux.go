package cgroup

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// Watch tells what the limits of a group stop, as long as there is the group.
// Any user may: the files are everybody's to read.
type Watch struct {
	memory, pids *os.File // nil: no such controller
	wake         *os.File // closed: look for the last time
	woken        *os.File
	last         Reached
	ended        chan struct{}
}

// lookEvery bounds the wait for a notice that did not come: the kernel leaves
// out those within 10 ms of another (cgroup_file_notify in
// kernel/cgroup/cgroup.c).
const lookEvery = time.Second

// WatchLimits calls tell with what has come to be since it last did, until End.
func WatchLimits(dir string, tell func(Reached)) (*Watch, error) {
	w := &Watch{ended: make(chan struct{})}
	for _, f := range []struct {
		to   **os.File
		name string
	}{{&w.memory, "memory.events"}, {&w.pids, "pids.events"}} {
		fd, err := unix.Open(filepath.Join(dir, f.name), unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if errors.Is(err, unix.ENOENT) {
			continue
		}
		if err != nil {
			w.close()
			return nil, fmt.Errorf("watch the limits of %s: %w", dir, err)
		}
		*f.to = os.NewFile(uintptr(fd), f.name)
	}
	var err error
	if w.woken, w.wake, err = os.Pipe(); err != nil {
		w.close()
		return nil, fmt.Errorf("watch limits: %w", err)
	}
	w.last = w.read()
	go w.run(tell)
	return w, nil
}

// End looks once more and returns when all has been told.
func (w *Watch) End() {
	if w == nil || w.wake == nil {
		return
	}
	w.wake.Close()
	w.wake = nil
	<-w.ended
	w.close()
}

func (w *Watch) close() {
	for _, f := range []*os.File{w.memory, w.pids, w.wake, w.woken} {
		if f != nil {
			f.Close()
		}
	}
}

func (w *Watch) run(tell func(Reached)) {
	defer close(w.ended)
	fds := []unix.PollFd{{Fd: int32(w.woken.Fd()), Events: unix.POLLIN}}
	for _, f := range []*os.File{w.memory, w.pids} {
		if f != nil {
			fds = append(fds, unix.PollFd{Fd: int32(f.Fd()), Events: unix.POLLPRI})
		}
	}
	for done := false; !done; {
		_, err := unix.Poll(fds, int(lookEvery.Milliseconds()))
		done = fds[0].Revents != 0 || err != nil && !errors.Is(err, unix.EINTR)
		now := w.read()
		if more := (Reached{now.Killed - w.last.Killed, now.Refused - w.last.Refused}); more != (Reached{}) {
			w.last = now
			tell(more)
		}
	}
}

// read gives what is known, where the group has gone.
func (w *Watch) read() Reached {
	now := w.last
	if b, ok := contentOf(w.memory); ok {
		now.Killed = max(now.Killed, counter(b, "oom_kill"))
	}
	if b, ok := contentOf(w.pids); ok {
		now.Refused = max(now.Refused, counter(b, "max"))
	}
	return now
}

func contentOf(f *os.File) (string, bool) {
	if f == nil {
		return "", false
	}
	buf := make([]byte, 4096)
	n, err := f.ReadAt(buf, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return "", false // ENODEV: the group has gone
	}
	return string(buf[:n]), true
}
