package sandbox

import (
	"errors"
	"fmt"
	"sync"

	"golang.org/x/sys/unix"
)

// maxThreads bounds the pidfds that are kept.
const maxThreads = 64

// threads copies descriptors out of waiting threads. A pidfd stands for one
// thread for all time: where copying succeeds it is alive, and so it is the one
// that has the number now.
type threads struct {
	pidfds map[int]int
	// processes: a pidfd can only stand for a whole process (before Linux 6.9).
	// Then a thread that has left its process's table of descriptors gets what
	// its number means in that table.
	processes bool
}

// socket copies a thread's descriptor.
func (t *threads) socket(tid, fd int) (int, error) {
	pidfd, known := t.pidfds[tid]
	if known {
		sock, err := unix.PidfdGetfd(pidfd, fd, 0)
		if !errors.Is(err, unix.ESRCH) {
			return sock, explainCopy(err)
		}
		delete(t.pidfds, tid) // it had the number before
		unix.Close(pidfd)
	}
	pidfd, err := t.open(tid)
	if err != nil {
		return -1, fmt.Errorf("open the caller: %s", err)
	}
	if len(t.pidfds) >= maxThreads {
		t.close()
	}
	if t.pidfds == nil {
		t.pidfds = map[int]int{}
	}
	t.pidfds[tid] = pidfd
	sock, err := unix.PidfdGetfd(pidfd, fd, 0)
	return sock, explainCopy(err)
}

// explainCopy keeps a caller's mistake apart from what is not its fault.
func explainCopy(err error) error {
	if err == nil || errors.Is(err, unix.EBADF) {
		return err
	}
	return fmt.Errorf("copy the caller's descriptor: %s", err)
}

func (t *threads) open(tid int) (int, error) {
	const pidfdThread = unix.O_EXCL // PIDFD_THREAD
	if !t.processes {
		fd, err := unix.PidfdOpen(tid, pidfdThread)
		if !errors.Is(err, unix.EINVAL) {
			return fd, err
		}
		t.processes = true
	}
	return unix.PidfdOpen(leader(tid), 0)
}

func (t *threads) close() {
	for _, fd := range t.pidfds {
		unix.Close(fd)
	}
	t.pidfds = nil
}

// redone remembers connections whose caller was interrupted while the answer
// was on its way: before Linux 5.19 it asks again, and must not hear EISCONN.
type redone struct {
	mu sync.Mutex
	by map[int]uint64 // thread: inode of the socket
}

func (r *redone) add(c *connecting) {
	var st unix.Stat_t
	if unix.Fstat(c.sock, &st) != nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.by == nil || len(r.by) >= maxCallers {
		r.by = map[int]uint64{}
	}
	r.by[c.tid] = st.Ino
}

// was reports whether a call is the repetition of one that has been performed.
func (r *redone) was(c *connecting) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	ino, ok := r.by[c.tid]
	if !ok {
		return false
	}
	delete(r.by, c.tid)
	var st unix.Stat_t
	return unix.Fstat(c.sock, &st) == nil && st.Ino == ino
}
