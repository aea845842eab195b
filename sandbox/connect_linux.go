package sandbox

import (
	"errors"
	"fmt"
	"os"
	"path"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/internal/event"
	"github.com/sallyport/sallyport/internal/plan"
	"github.com/sallyport/sallyport/internal/policy"
)

// connecting is one connect(2) of the payload, performed here on a copy of its
// socket, which is the same open socket in the same network namespace, with a
// copy of its address: what the payload does to its memory or its descriptors
// meanwhile changes nothing. The other side sees the supervisor's pid in
// SO_PEERCRED, which is 0 inside, and the payload's user and group.
type connecting struct {
	notification
	sock   int
	addr   []byte // as the payload gave it
	domain int
	kind   int
	denied *event.Event // not yet in the record: see recordDenied
}

// connect decides and performs a connect(2), or hands it to a goroutine if that
// may take time. Only a path can lead out of the sandbox: network addresses are
// the network's to judge, and abstract names belong to its namespace.
func (l *listener) connect(n notification, r plan.Refusal) {
	c, err := l.take(n)
	if err != nil {
		var errno unix.Errno
		if !errors.As(err, &errno) {
			errno = unix.Errno(r.Errno)
			e := refusalEvent(n, r, time.Now())
			e.Detail = event.Text(err.Error())
			l.record(n, e)
		}
		l.answer(n, errno)
		return
	}
	if l.restarts {
		l.pending.Go(func() { l.connectOnce(c) })
		return
	}
	l.perform(c, func(f func()) { l.pending.Go(f) })
}

// perform connects; what may take time it leaves to later.
func (l *listener) perform(c *connecting, later func(func())) {
	switch name, isPath := unixPath(c.addr); {
	case c.domain == unix.AF_UNIX && isPath:
		later(func() { l.connectPath(c, name) })
	case c.domain == unix.AF_NETLINK && !plainNetlink(c.addr):
		l.finish(c, unix.EPERM)
	default:
		if again := l.try(c, c.addr); again != nil {
			later(again)
		}
	}
}

// take copies a call's socket and address. An error that is an errno is the
// caller's own mistake.
func (l *listener) take(n notification) (*connecting, error) {
	length := int32(n.args[2])
	sock, err := l.inside.threads.socket(n.tid, int(int32(n.args[0])))
	if err != nil {
		return nil, err
	}
	c := &connecting{notification: n, sock: sock}
	if err := l.copyCall(c, length); err != nil {
		unix.Close(sock)
		return nil, err
	}
	return c, nil
}

func (l *listener) copyCall(c *connecting, length int32) (err error) {
	if c.domain, err = unix.GetsockoptInt(c.sock, unix.SOL_SOCKET, unix.SO_DOMAIN); err != nil {
		return err // ENOTSOCK
	}
	if c.kind, err = unix.GetsockoptInt(c.sock, unix.SOL_SOCKET, unix.SO_TYPE); err != nil {
		return err
	}
	if length < 0 || length > maxSockaddr {
		return unix.EINVAL
	}
	c.addr = make([]byte, length)
	if err := readMemory(c.tid, uintptr(c.args[1]), c.addr); err != nil {
		return err
	}
	if !l.valid(c.id) {
		return unix.EINTR // nobody waits for it
	}
	if !l.inside.netns.has(c.sock) {
		return errors.New("the socket is of another network namespace: a program outside handed it on")
	}
	return nil
}

// readMemory copies from the memory of a waiting thread, once.
func readMemory(tid int, addr uintptr, b []byte) error {
	if len(b) == 0 {
		return nil
	}
	local := []unix.Iovec{{Base: &b[0], Len: uint64(len(b))}}
	remote := []unix.RemoteIovec{{Base: addr, Len: len(b)}}
	n, err := unix.ProcessVMReadv(tid, local, remote, 0)
	if errors.Is(err, unix.ENOSYS) { // a kernel without CONFIG_CROSS_MEMORY_ATTACH
		var f *os.File
		if f, err = os.Open(fmt.Sprintf("/proc/%d/mem", tid)); err == nil {
			n, err = f.ReadAt(b, int64(addr))
			f.Close()
		}
		if n < len(b) && err != nil {
			return unix.EFAULT
		}
	}
	switch {
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES):
		return fmt.Errorf("the caller's memory cannot be read: %s", err)
	case err != nil || n < len(b):
		return unix.EFAULT
	}
	return nil
}

// connectPath connects to what a path leads to, if it is the sandbox's own
// socket or one that the policy lists.
func (l *listener) connectPath(c *connecting, name string) {
	l.lookups <- struct{}{}
	target, errno := l.findSocket(c, name)
	<-l.lookups
	if errno != 0 {
		l.finish(c, errno)
		return
	}
	// To connect through the descriptor is to connect to what was decided on.
	again := l.try(c, unixAddress(fmt.Sprintf("/proc/self/fd/%d", target)))
	if again != nil {
		again()
	}
	unix.Close(target)
}

// findSocket opens what a path leads to and decides on it.
func (l *listener) findSocket(c *connecting, name string) (int, unix.Errno) {
	full, err := absolute(c.tid, name)
	if err != nil {
		return -1, unix.ENOENT
	}
	if !l.valid(c.id) {
		return -1, unix.EINTR
	}
	fd, err := l.inside.open(full)
	if err != nil {
		errno := errnoOf(err)
		l.recordHidden(c, path.Clean(full), errno)
		return -1, errno
	}
	if errno := l.decide(c, fd); errno != 0 {
		unix.Close(fd)
		return -1, errno
	}
	return fd, 0
}

func errnoOf(err error) unix.Errno {
	var errno unix.Errno
	if errors.As(err, &errno) {
		return errno
	}
	return unix.EACCES
}

func (l *listener) decide(c *connecting, fd int) unix.Errno {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return errnoOf(err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFSOCK {
		return unix.ECONNREFUSED // as the kernel has it
	}
	if l.inside.own[st.Dev] { // nothing there is the host's
		return 0
	}
	where, err := pathOf(fd)
	if err != nil {
		return errnoOf(err)
	}
	d := l.inside.decide(where)
	if !d.Allowed() && l.inside.made(fd) {
		return 0
	}
	e := connectEvent(where, d)
	if d.Allowed() {
		l.record(c.notification, e)
		return 0
	}
	e.Errno = "EACCES"
	l.recordDenied(c, e)
	return unix.EACCES
}

// recordDenied records what is about to be refused. A call that a signal may
// interrupt is made anew, and recorded once: see finish.
func (l *listener) recordDenied(c *connecting, e event.Event) {
	e = l.signed(c.notification, e)
	if l.restarts {
		c.denied = &e
		return
	}
	l.emit(e)
}

// recordHidden records an attempt at a socket that the host has under a name
// where the sandbox has none.
func (l *listener) recordHidden(c *connecting, name string, errno unix.Errno) {
	var st unix.Stat_t
	if errno != unix.ENOENT && errno != unix.EACCES {
		return
	}
	if unix.Fstatat(unix.AT_FDCWD, name, &st, unix.AT_NO_AUTOMOUNT) != nil || st.Mode&unix.S_IFMT != unix.S_IFSOCK {
		return
	}
	d := l.inside.decide(name)
	d.Verdict, d.Reason = event.Deny, event.PathHidden
	e := connectEvent(name, d)
	e.Errno = unix.ErrnoName(errno)
	l.recordDenied(c, e)
}

func connectEvent(where string, d policy.Decision) event.Event {
	now := time.Now()
	return event.Event{
		Verdict: d.Verdict, Layer: event.LayerSeccomp, Operation: event.UnixConnect,
		Object: event.Object{Path: event.Text(where)}, Reason: d.Reason, Rule: d.Rule.String(), Detail: event.Text(d.Text),
		Count: 1, First: now, Last: now, Time: now,
	}
}

// try connects without waiting. What is left to do, if anything, it returns: a
// payload that is willing to wait does so on its own, not on this thread.
func (l *listener) try(c *connecting, addr []byte) (again func()) {
	opened := l.opening(c, addr)
	if opened == nil { // killed; or interrupted, and asks again
		l.finish(c, unix.EINTR)
		return nil
	}
	errno, waits := c.attempt(addr)
	opened(errno)
	if waits && c.domain != unix.AF_UNIX && c.writable() { // most often at once
		errno, waits = c.attempt(addr)
	}
	if !waits {
		l.finish(c, errno)
		return nil
	}
	return func() { l.finish(c, l.persist(c, addr)) }
}

// attempt connects without waiting, and reports whether a caller on a blocking
// socket would wait now. The flag is the open socket's, so the payload might
// see it; but only on a socket that is just being connected.
func (c *connecting) attempt(addr []byte) (errno unix.Errno, waits bool) {
	flags, err := unix.FcntlInt(uintptr(c.sock), unix.F_GETFL, 0)
	blocking := err == nil && flags&unix.O_NONBLOCK == 0 && (c.kind == unix.SOCK_STREAM || c.kind == unix.SOCK_SEQPACKET)
	if blocking {
		_, _ = unix.FcntlInt(uintptr(c.sock), unix.F_SETFL, flags|unix.O_NONBLOCK)
	}
	errno = rawConnect(c.sock, addr)
	if blocking {
		_, _ = unix.FcntlInt(uintptr(c.sock), unix.F_SETFL, flags)
	}
	switch errno {
	case unix.EAGAIN: // the listener's queue is full (unix), or no port is left
		return errno, blocking && c.domain == unix.AF_UNIX
	case unix.EINPROGRESS, unix.EALREADY:
		return errno, blocking
	}
	return errno, false
}

func rawConnect(sock int, addr []byte) unix.Errno {
	var p unsafe.Pointer
	if len(addr) > 0 {
		p = unsafe.Pointer(&addr[0])
	}
	for {
		_, _, errno := unix.Syscall(unix.SYS_CONNECT, uintptr(sock), uintptr(p), uintptr(len(addr)))
		if errno != unix.EINTR {
			return errno
		}
	}
}

// persist waits in the caller's place: until it is connected, refused, its
// own time limit (SO_SNDTIMEO, socket(7)) has passed, or a signal has come.
func (l *listener) persist(c *connecting, addr []byte) unix.Errno {
	var deadline time.Time
	if tv, err := unix.GetsockoptTimeval(c.sock, unix.SOL_SOCKET, unix.SO_SNDTIMEO); err == nil && tv.Nano() > 0 {
		deadline = time.Now().Add(time.Duration(tv.Nano()))
	}
	for pause := 200 * time.Microsecond; ; pause = min(2*pause, 50*time.Millisecond) {
		time.Sleep(pause)
		if !l.valid(c.id) || pause > 5*time.Millisecond && interrupted(c.tid) {
			return unix.EINTR
		}
		if c.domain == unix.AF_UNIX || c.writable() {
			if errno, waits := c.attempt(addr); !waits {
				return errno
			}
		}
		if !deadline.IsZero() && time.Now().After(deadline) {
			if c.domain == unix.AF_UNIX {
				return unix.EAGAIN
			}
			return unix.EINPROGRESS
		}
	}
}

func (c *connecting) writable() bool {
	p := []unix.PollFd{{Fd: int32(c.sock), Events: unix.POLLOUT}}
	n, err := unix.Poll(p, 0)
	return err == nil && n > 0
}

// finish answers a call and forgets it.
func (l *listener) finish(c *connecting, errno unix.Errno) {
	// Before the answer, which the kernel's programs see at once: theirs is the
	// twin. Of one that is made anew already, only the next is recorded.
	denied := c.denied != nil && (l.valid(c.id) || !lives(c.tid))
	if denied && !l.redone.told(c) {
		l.emit(*c.denied)
	}
	answered := l.answer(c.notification, errno)
	switch {
	case l.restarts && errno == 0:
		l.redone.set(c, answered)
	case denied && !answered:
		l.redone.tell(c)
	}
	unix.Close(c.sock)
}
