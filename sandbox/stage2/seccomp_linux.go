package stage2

import (
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// InstallFilter puts a filter on the calling thread, for good, and with it
// on every process the thread starts. The caller has locked the thread. flags
// are those of seccomp(2); with SECCOMP_FILTER_FLAG_NEW_LISTENER, which a filter
// that notifies needs, fd is the listener, close-on-exec; otherwise fd is -1.
func InstallFilter(filter []byte, flags uint) (fd int, err error) {
	if len(filter) == 0 || len(filter)%unix.SizeofSockFilter != 0 {
		return -1, fmt.Errorf("install seccomp filter: it has %d bytes", len(filter))
	}
	// Without it a filter takes CAP_SYS_ADMIN, since it could mislead a set-uid
	// program (seccomp(2)).
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return -1, fmt.Errorf("set no_new_privs: %w", err)
	}
	fprog := unix.SockFprog{Len: uint16(len(filter) / unix.SizeofSockFilter), Filter: (*unix.SockFilter)(unsafe.Pointer(&filter[0]))}
	n, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, uintptr(flags), uintptr(unsafe.Pointer(&fprog)))
	runtime.KeepAlive(filter)
	switch {
	case errno == unix.EBUSY:
		return -1, fail("run sallyport outside of what supervises this process",
			"install seccomp filter: %w: another program answers for this process's system calls", errno)
	case errno != 0:
		return -1, fmt.Errorf("install seccomp filter: %w", errno)
	case flags&unix.SECCOMP_FILTER_FLAG_NEW_LISTENER != 0:
		return int(n), nil
	case n != 0: // SECCOMP_FILTER_FLAG_TSYNC names the thread that it could not reach
		return -1, fmt.Errorf("install seccomp filter: thread %d has another one", n)
	}
	return -1, nil
}
