package sandbox

import (
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// redone is for kernels before Linux 5.19, where a signal interrupts a caller
// that waits for an answer. Its call starts anew and is asked about once more,
// while the first may be under way or done: a thread's calls take turns, and
// one that has been performed is not performed again, which would be EISCONN.
type redone struct {
	mu    sync.Mutex
	turns map[int]*turn // by thread
}

type turn struct {
	sync.Mutex
	waiting int
	// What was connected last: its socket's inode, and until when the same call
	// is taken for its repetition. It may even come after the answer was taken:
	// the caller looks for signals first (seccomp_do_user_notification in
	// kernel/seccomp.c).
	sock  uint64
	args  [6]uint64
	until time.Time
	// denied is the refused call whose caller has not heard of it, though the
	// record has.
	denied *refusal
}

type refusal struct {
	sock  uint64
	args  [6]uint64
	until time.Time
}

const (
	heard   = 250 * time.Millisecond
	unheard = time.Minute
)

// connectOnce performs a connect that may be the repetition of another.
func (l *listener) connectOnce(c *connecting) {
	t := l.redone.enter(c.tid)
	defer l.redone.leave(c.tid, t)
	if !l.valid(c.id) {
		unix.Close(c.sock)
		return
	}
	if inode := c.inode(); inode != 0 && inode == t.sock && c.args == t.args && time.Now().Before(t.until) {
		l.finish(c, 0)
		return
	}
	t.sock = 0
	l.perform(c, func(f func()) { f() })
}

// inode names the socket; 0 if it cannot be named.
func (c *connecting) inode() uint64 {
	var st unix.Stat_t
	if unix.Fstat(c.sock, &st) != nil {
		return 0
	}
	return st.Ino
}

func (r *redone) enter(tid int) *turn {
	r.mu.Lock()
	if r.turns == nil {
		r.turns = map[int]*turn{}
	}
	t := r.turns[tid]
	if t == nil {
		t = &turn{}
		r.turns[tid] = t
	}
	t.waiting++
	r.mu.Unlock()
	t.Lock()
	return t
}

func (r *redone) leave(tid int, t *turn) {
	t.Unlock()
	r.mu.Lock()
	defer r.mu.Unlock()
	if t.waiting--; t.waiting == 0 && len(r.turns) > maxCallers {
		delete(r.turns, tid)
	}
}

// set notes, in c's turn, that it has been connected.
func (r *redone) set(c *connecting, answered bool) {
	t := r.turn(c.tid)
	t.sock, t.args, t.until = c.inode(), c.args, time.Now().Add(unheard)
	if answered {
		t.until = time.Now().Add(heard)
	}
}

// tell notes, in c's turn, that its refusal is in the record and was not answered.
func (r *redone) tell(c *connecting) {
	if t := r.turn(c.tid); t != nil {
		t.denied = &refusal{c.inode(), c.args, time.Now().Add(unheard)}
	}
}

// told reports, once, whether c repeats what tell noted.
func (r *redone) told(c *connecting) bool {
	t := r.turn(c.tid)
	if t == nil || t.denied == nil {
		return false
	}
	d := *t.denied
	t.denied = nil
	return d.sock == c.inode() && d.args == c.args && time.Now().Before(d.until)
}

// turn is nil where calls take none.
func (r *redone) turn(tid int) *turn {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.turns[tid]
}
