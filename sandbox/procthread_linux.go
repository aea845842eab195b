package sandbox

import (
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// procThread is a thread's directory in procfs and its stat, held open: opening
// them is most of a look. They stand for one thread for all time, and say that
// there is none (ESRCH) when it has ended, whoever has its number then.
type procThread struct{ dir, stat int }

func openThread(tid int) (procThread, error) {
	// Not /proc/TID/stat, which adds up what all threads have used.
	name := fmt.Sprintf("/proc/%d/task/%d", tid, tid)
	dir, err := unix.Open(name, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return procThread{}, fmt.Errorf("open %s: %w", name, err)
	}
	stat, err := unix.Openat(dir, "stat", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		unix.Close(dir)
		return procThread{}, fmt.Errorf("open %s/stat: %w", name, err)
	}
	return procThread{dir, stat}, nil
}

func (t procThread) close() {
	unix.Close(t.dir)
	unix.Close(t.stat)
}

// look is what tells whether a thread is still the same and runs the same
// program; the zero value is that of none.
type look struct {
	procStat
	dev, ino uint64 // of the executable, if it may be seen
}

// statBuffer has room for 52 numbers and a name.
type statBuffer [2048]byte

func (t procThread) look(buf *statBuffer) look {
	n, err := unix.Pread(t.stat, buf[:], 0)
	if err != nil {
		return look{}
	}
	stat, err := parseProcStat(string(buf[:n]))
	if err != nil {
		return look{}
	}
	var exe unix.Stat_t
	_ = unix.Fstatat(t.dir, "exe", &exe, 0) // without one all are alike
	return look{stat, exe.Dev, exe.Ino}
}

// procStat is the part of /proc/PID/stat (proc_pid_stat(5)) that tells whether
// a process is still the same and runs the same program.
type procStat struct {
	parent int
	start  string // field 22
	args   string // arg_start, field 48: where execve(2) put the arguments
}

func readStat(pid int) (procStat, error) {
	b, err := readProc(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return procStat{}, err
	}
	return parseProcStat(string(b))
}

func parseProcStat(s string) (procStat, error) {
	var p procStat
	n := 0 // fields behind the command, of which the first is the third
	for f := range strings.FieldsSeq(s[strings.LastIndexByte(s, ')')+1:]) {
		switch n++; n {
		case 2:
			parent, err := strconv.Atoi(f)
			if err != nil {
				return procStat{}, fmt.Errorf("read stat: %w", err)
			}
			p.parent = parent
		case 20:
			p.start = f
		case 46:
			p.args = f
			return p, nil
		}
	}
	return procStat{}, fmt.Errorf("read stat: %d fields after the command", n)
}
