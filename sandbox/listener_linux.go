package sandbox

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/internal/event"
	"github.com/sallyport/sallyport/internal/plan"
	"github.com/sallyport/sallyport/sandbox/stage2"
)

// ioctls of a seccomp listener, linux/seccomp.h. That of ID_VALID has had this
// direction since Linux 5.9; SET_FLAGS came with 6.6.
const (
	seccompRecv     = unix.SECCOMP_IOCTL_NOTIF_RECV
	seccompSend     = unix.SECCOMP_IOCTL_NOTIF_SEND
	seccompIDValid  = 0x40082102
	seccompSetFlags = 0x40082104
)

// listener answers the system calls that the filter does not let pass. One
// goroutine takes them in the order in which they were made; what could block
// on the payload's doing gets a goroutine of its own. If it dies, the kernel
// answers ENOSYS in its place: nothing ever passes for want of an answer.
type listener struct {
	file    *os.File
	raw     syscall.RawConn // file's, to wait with
	fd      int
	seccomp plan.Seccomp
	arch    plan.Arch
	emit    func(event.Event)
	inside  *inside
	callers callers
	opened  *opened // nil: nobody asks
	// restarts: a signal makes a waiting call start anew (before Linux 5.19).
	restarts bool
	redone   redone

	ready   chan error // what became of the stage2.Handshake
	done    chan struct{}
	pending sync.WaitGroup
	lookups chan struct{} // how many may look at the file system at once
}

func newListener(fd int, s plan.Seccomp, arch plan.Arch, in *inside, emit func(event.Event)) *listener {
	l := &listener{fd: fd, seccomp: s, arch: arch, inside: in, emit: emit,
		ready: make(chan error, 1), done: make(chan struct{}), lookups: make(chan struct{}, 32)}
	_ = unix.SetNonblock(fd, true) // so that waiting takes no thread; a wait that cannot be had ends serve
	l.file = os.NewFile(uintptr(fd), "seccomp listener")
	l.raw, _ = l.file.SyscallConn() // fails for nil alone
	// The caller is woken on the processor that answers. ENOTTY, EINVAL: before
	// Linux 6.6, where it only takes longer.
	_, _, _ = unix.Syscall(unix.SYS_IOCTL, uintptr(fd), seccompSetFlags, unix.SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP)
	return l
}

// serve answers until every process under the filter has ended.
func (l *listener) serve() {
	defer close(l.done)
	defer func() {
		l.ready <- errors.New("no system call arrived at the supervisor")
		l.inside.threads.close()
		go func() { l.pending.Wait(); l.file.Close(); l.inside.close(); l.callers.close() }()
	}()
	recv, err := l.buffer()
	if err != nil {
		l.ready <- err
		return
	}
	greet := true
	for l.wait() {
		clear(recv) // the kernel wants zeros
		switch errno := l.ioctl(seccompRecv, unsafe.Pointer(&recv[0])); errno {
		case 0:
		case unix.ENOENT, unix.EINTR: // the caller was killed, or interrupted
			continue
		default:
			return
		}
		n, err := parseNotification(recv)
		if err != nil {
			return
		}
		if greet {
			greet = false
			if !l.greet(n) {
				return
			}
			continue
		}
		l.handle(n)
	}
}

// buffer has the kernel's size, which may be above ours.
func (l *listener) buffer() ([]byte, error) {
	var sizes struct{ notif, resp, data uint16 }
	if _, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_GET_NOTIF_SIZES, 0, uintptr(unsafe.Pointer(&sizes))); errno != 0 {
		return nil, fmt.Errorf("get sizes of seccomp notifications: %w", errno)
	}
	if sizes.notif < notificationSize || sizes.resp < responseSize {
		return nil, fmt.Errorf("seccomp notifications of %d and %d bytes are not known", sizes.notif, sizes.resp)
	}
	return make([]byte, sizes.notif), nil
}

func (l *listener) ioctl(cmd uintptr, arg unsafe.Pointer) unix.Errno {
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(l.fd), cmd, uintptr(arg))
	return errno
}

// wait reports whether there may be a notification; there will be none after a
// hang-up.
func (l *listener) wait() bool {
	var events int16
	err := l.raw.Read(func(fd uintptr) bool {
		p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		for {
			if _, err := unix.Poll(p, 0); !errors.Is(err, unix.EINTR) {
				events = p[0].Revents
				return err != nil || events != 0
			}
		}
	})
	return err == nil && events&unix.POLLIN != 0
}

// greet takes stage 2's first call, which proves that what the filter refuses
// arrives here, and shows where the sandbox is.
func (l *listener) greet(n notification) bool {
	err := l.inside.enter(n.tid)
	if err == nil && !l.valid(n.id) {
		err = errors.New("stage 2 has gone")
	}
	l.ready <- err
	if err != nil {
		return false
	}
	l.callers.init = l.inside.init
	l.answer(n, stage2.Handshake)
	return true
}

func (l *listener) handle(n notification) {
	r, refused := l.seccomp.Decide(l.arch, n.arch, n.nr, n.args)
	switch {
	case !refused: // the filter says otherwise
		r = plan.Refusal{Rule: "mismatch", Errno: plan.EPERM}
	case r.Supervised && r.Call == "connect":
		l.connect(n, r)
		return
	}
	e := l.signed(n, refusalEvent(n, r, time.Now()))
	if !l.restarts {
		l.emit(e)
		l.answer(n, unix.Errno(r.Errno))
		return
	}
	// Interrupted, the call is made anew, and recorded then.
	if l.answer(n, unix.Errno(r.Errno)) || !lives(n.tid) {
		l.emit(e)
	}
}

// record records before the answer: what was answered is in the record, come
// what may.
func (l *listener) record(n notification, e event.Event) { l.emit(l.signed(n, e)) }

// signed adds who it was, which is known for as long as the caller waits.
func (l *listener) signed(n notification, e event.Event) event.Event {
	if p, ancestors := l.callers.of(n.tid); l.valid(n.id) {
		e.Process, e.Ancestors = p, ancestors
	}
	return e
}

// valid reports whether the caller still waits. What was read of a thread by
// its number is that caller's only if it does so afterwards.
func (l *listener) valid(id uint64) bool { return l.ioctl(seccompIDValid, unsafe.Pointer(&id)) == 0 }

// answer reports whether the caller was still there to get it.
func (l *listener) answer(n notification, errno unix.Errno) bool {
	var resp [responseSize]byte
	putResponse(resp[:], n.id, uint32(errno))
	return l.ioctl(seccompSend, unsafe.Pointer(&resp[0])) == 0
}

// stop waits for what is still being answered, after the sandbox has ended.
func (l *listener) stop() {
	if l == nil {
		return
	}
	ended := make(chan struct{})
	go func() { <-l.done; l.pending.Wait(); close(ended) }()
	select {
	case <-ended:
	case <-time.After(time.Second): // a look-up on a file system that hangs
	}
}
