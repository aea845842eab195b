package sandbox

import (
	"errors"
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/internal/plan"
)

// rawMount is one mount(2), ready to be made where nothing can be allocated.
type rawMount struct {
	source, target, fstype, data *byte
	flags                        uintptr
}

const (
	coverFlags = unix.MS_RDONLY | unix.MS_NOSUID | unix.MS_NODEV
	hideFlags  = coverFlags | unix.MS_NOEXEC
)

// coverMounts gives the calls that put a mask on a path again, as the sandbox
// names it. keep are the flags that the kernel does not let go of there.
// What was opened again below a hidden directory stays hidden.
func coverMounts(m plan.Mount, dir bool, keep uintptr) []rawMount {
	bind := func(source string, flags uintptr) []rawMount {
		list := []rawMount{newMount(source, m.Path, "", "", unix.MS_BIND|unix.MS_REC)}
		if flags != 0 {
			list = append(list, newMount("", m.Path, "", "", unix.MS_REMOUNT|unix.MS_BIND|flags|keep))
		}
		return list
	}
	switch {
	case m.Access == plan.ReadWrite:
		return bind(m.Path, 0) // a pin
	case m.Access == plan.ReadOnly:
		return bind(m.Path, coverFlags)
	case m.Access == plan.Private:
		return []rawMount{newMount("tmpfs", m.Path, "tmpfs", "mode=0700", unix.MS_NOSUID|unix.MS_NODEV)}
	case dir:
		return []rawMount{newMount("tmpfs", m.Path, "tmpfs", "mode=0000", hideFlags)}
	default:
		return bind("/dev/null", hideFlags)
	}
}

func newMount(source, target, fstype, data string, flags uintptr) rawMount {
	return rawMount{cstring(source), cstring(target), cstring(fstype), cstring(data), flags}
}

// cstring gives nil for an empty string.
func cstring(s string) *byte {
	if s == "" {
		return nil
	}
	b := append([]byte(s), 0)
	return &b[0]
}

// coverReport is what the child says: the first call that failed.
type coverReport struct {
	step  int64 // -2: joining the user namespace, -1: the mount namespace, else a mount's index
	errno uint64
}

// cover makes mounts in the sandbox's mount namespace. The supervisor owns the
// user namespace above the one that it belongs to, and so has every capability
// there once it joins (user_namespaces(7)); only a process with a single thread
// may, so that a child does it: a copy of this process that makes these system
// calls and ends. To execute a program for it would take some milliseconds,
// for which the file is bare.
func cover(user, mount int, list []rawMount) error {
	if len(list) == 0 {
		return nil
	}
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		return fmt.Errorf("make pipe: %w", err)
	}
	defer unix.Close(pipe[0])
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	all := ^uint64(0)
	var old uint64
	// No handler of the runtime's may run in the child.
	_, _, _ = unix.RawSyscall6(unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, uintptr(unsafe.Pointer(&all)), uintptr(unsafe.Pointer(&old)), 8, 0, 0)
	pid, errno := forkAndCover(uintptr(user), uintptr(mount), &list[0], uintptr(len(list)), uintptr(pipe[1]))
	_, _, _ = unix.RawSyscall6(unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, uintptr(unsafe.Pointer(&old)), 0, 8, 0, 0)
	runtime.KeepAlive(list)
	unix.Close(pipe[1])
	if errno != 0 {
		return fmt.Errorf("fork: %w", errno)
	}
	return awaitCover(int(pid), pipe[0])
}

// awaitCover reads the child's report and takes its remains.
func awaitCover(pid, pipe int) error {
	var r coverReport
	buf := unsafe.Slice((*byte)(unsafe.Pointer(&r)), unsafe.Sizeof(r))
	n, err := unix.Read(pipe, buf)
	for errors.Is(err, unix.EINTR) {
		n, err = unix.Read(pipe, buf)
	}
	for {
		if _, err := unix.Wait4(pid, nil, 0, nil); !errors.Is(err, unix.EINTR) {
			break
		}
	}
	switch {
	case n != len(buf):
		return errors.New("enter the sandbox: the child that does it was killed")
	case r.errno == 0:
		return nil
	case r.step == -2:
		return fmt.Errorf("join the sandbox's user namespace: %w", unix.Errno(r.errno))
	case r.step == -1:
		return fmt.Errorf("join the sandbox's mount namespace: %w", unix.Errno(r.errno))
	}
	return fmt.Errorf("mount (step %d): %w", r.step, unix.Errno(r.errno))
}

// forkAndCover returns in the parent alone. The child is a copy of a process
// with many threads of which only this one is left: it may call nothing but the
// kernel, and no function that could ask for more stack.
//
//go:nosplit
//go:norace
//go:noinline
func forkAndCover(user, mount uintptr, first *rawMount, n, pipe uintptr) (uintptr, unix.Errno) {
	pid, _, errno := unix.RawSyscall6(unix.SYS_CLONE, uintptr(unix.SIGCHLD), 0, 0, 0, 0, 0)
	if errno != 0 || pid != 0 {
		return pid, errno
	}
	var report coverReport
	report.step = -2
	_, _, errno = unix.RawSyscall(unix.SYS_SETNS, user, unix.CLONE_NEWUSER, 0)
	if errno == 0 {
		report.step = -1
		_, _, errno = unix.RawSyscall(unix.SYS_SETNS, mount, unix.CLONE_NEWNS, 0)
	}
	report.errno = uint64(errno)
	for i := uintptr(0); i < n && report.step != -2 && (report.errno == 0 || report.step >= 0); i++ {
		m := (*rawMount)(unsafe.Add(unsafe.Pointer(first), i*unsafe.Sizeof(rawMount{})))
		_, _, errno = unix.RawSyscall6(unix.SYS_MOUNT, uintptr(unsafe.Pointer(m.source)), uintptr(unsafe.Pointer(m.target)),
			uintptr(unsafe.Pointer(m.fstype)), m.flags, uintptr(unsafe.Pointer(m.data)), 0)
		if errno != 0 && report.errno == 0 {
			report.step, report.errno = int64(i), uint64(errno)
		}
	}
	_, _, _ = unix.RawSyscall(unix.SYS_WRITE, pipe, uintptr(unsafe.Pointer(&report)), unsafe.Sizeof(report))
	for {
		_, _, _ = unix.RawSyscall(unix.SYS_EXIT_GROUP, 0, 0, 0)
	}
}
