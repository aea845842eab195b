package vm

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// DieWithParent makes the kernel kill a child when its parent's thread is gone.
func DieWithParent() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}

// cpuOf is the processor time that a process has used; none of one that is gone.
func cpuOf(pid int) time.Duration {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	return cpuIn(string(stat))
}

// cpuIn reads utime and stime, fields 14 and 15, in hundredths of a second
// (proc(5)). The name before them is in parentheses and may hold anything.
func cpuIn(stat string) time.Duration {
	f := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	if len(f) < 13 {
		return 0
	}
	user, errU := strconv.ParseInt(f[11], 10, 64)
	system, errS := strconv.ParseInt(f[12], 10, 64)
	if errU != nil || errS != nil {
		return 0
	}
	return time.Duration(user+system) * (time.Second / 100)
}
