package stage2

import (
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// maxFD is close_range(2)'s "all that follow".
const maxFD = 1<<32 - 1

// keepFrom marks every descriptor from first on to be closed by execve(2):
// CLOSE_RANGE_CLOEXEC where there is one (Linux 5.11), else one by one.
func keepFrom(first int) {
	if unix.CloseRange(uint(first), maxFD, unix.CLOSE_RANGE_CLOEXEC) == nil {
		return
	}
	for _, fd := range openFDs(first) {
		unix.CloseOnExec(fd)
	}
}

func openFDs(first int) []int {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		// Without /proc: all that there could be.
		var fds []int
		for fd := first; fd < 1<<16; fd++ {
			fds = append(fds, fd)
		}
		return fds
	}
	var fds []int
	for _, e := range entries {
		if fd, err := strconv.Atoi(e.Name()); err == nil && fd >= first {
			fds = append(fds, fd)
		}
	}
	return fds
}
