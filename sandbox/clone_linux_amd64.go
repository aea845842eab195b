package sandbox

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// cloneStack is far above what run and the system call below it take.
const cloneStack = 16 << 10

// cloneSharing is clone, but the new process has this one's memory, until it
// executes, and a stack of its own. A copy would cost both: every page that is
// written afterwards is copied, and the processors are told. Not for programs
// that gain capabilities by joining a namespace: the memory would be undumpable
// then, the supervisor's too (commit_creds in kernel/cred.c).
func (p *program) cloneSharing(flags uintptr) (uintptr, unix.Errno) {
	stack := make([]byte, cloneStack)
	p.keep = append(p.keep, stack)
	top := (uintptr(unsafe.Pointer(unsafe.SliceData(stack))) + cloneStack) &^ 15
	pid, errno := cloneShared(flags|unix.CLONE_VM|uintptr(unix.SIGCHLD), top, p)
	return pid, unix.Errno(errno)
}

// cloneShared returns in the parent only; the child runs p on the stack.
//
//go:noescape
func cloneShared(flags, stack uintptr, p *program) (pid, errno uintptr)
