package sandbox

import (
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// callersFiles gives the limits of open files with which this process was
// started. The runtime has raised the soft one at its start and tells nobody
// what it was, but restores it before it executes a program; so one that does
// not exist is executed.
var callersFiles = sync.OnceValue(func() syscall.Rlimit {
	_ = syscall.Exec("", nil, nil) // fails: ENOENT (execve(2))
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		return syscall.Rlimit{Cur: 1024, Max: 4096} // the kernel's default
	}
	if l.Cur < l.Max {
		// This process serves many connections. Not through package syscall: of
		// what it sets, the runtime takes note.
		_ = unix.Prlimit(0, unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: l.Max, Max: l.Max}, nil)
	}
	return l
})
