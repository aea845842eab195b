package sandbox

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"github.com/sallyport/sallyport/internal/event"
)

// maxCallers bounds what is remembered; a payload can make threads without end.
const maxCallers = 512

// callers describes the processes behind notifications. A thread that waits
// for an answer cannot go away, so what /proc says is true of it; reading all
// of it takes some 100 µs, so it is remembered for as long as the thread, its
// program and its argument vector's place stay the same.
type callers struct {
	init int // process 1 of the sandbox, as seen here: ancestry ends before it
	// describe, if set, knows more than /proc does: what the process did not
	// choose to show, and parents that have ended.
	describe Describe

	mu    sync.Mutex
	known map[int]*caller // by thread
}

type caller struct {
	start, args string // see procStat
	dev, ino    uint64 // of the executable
	process     event.Process
	ancestors   []event.Process
}

// of gives the process that a waiting thread belongs to, nil if there is no
// such thread, and its ancestors inside the sandbox, nearest first.
func (c *callers) of(tid int) (*event.Process, []event.Process) {
	stat, err := readStat(tid)
	if err != nil {
		return nil, nil
	}
	var exe syscall.Stat_t
	_ = syscall.Stat(fmt.Sprintf("/proc/%d/exe", tid), &exe) // without one all are alike
	c.mu.Lock()
	defer c.mu.Unlock()
	k := c.known[tid]
	if k == nil || k.start != stat.start || k.args != stat.args || k.dev != exe.Dev || k.ino != exe.Ino {
		p, above := c.ask(leader(tid), stat.parent)
		if p == nil {
			return nil, nil
		}
		k = &caller{stat.start, stat.args, exe.Dev, exe.Ino, *p, above}
		if k.halfway() {
			return p, above
		}
		if len(c.known) >= maxCallers || c.known == nil {
			c.known = map[int]*caller{}
		}
		c.known[tid] = k
	}
	p := k.process
	return &p, k.ancestors
}

// halfway reports whether one of the processes is in the middle of execve(2): it
// has a program, and no arguments yet, or an empty one.
func (k *caller) halfway() bool {
	noArgs := func(p event.Process) bool { return len(p.Argv) == 0 || len(p.Argv) == 1 && p.Argv[0] == "" }
	return noArgs(k.process) || slices.ContainsFunc(k.ancestors, noArgs)
}

func (c *callers) ask(pid, parent int) (*event.Process, []event.Process) {
	if c.describe != nil {
		if p, above := c.describe(pid); p != nil {
			return p, above
		}
	}
	return readProcess(pid), c.ancestors(parent)
}

func (c *callers) ancestors(pid int) []event.Process {
	var out []event.Process
	for pid > 0 && pid != c.init && len(out) < maxAncestors {
		stat, err := readStat(pid)
		if err != nil {
			break
		}
		if p := readProcess(pid); p != nil {
			out = append(out, *p)
		}
		pid = stat.parent
	}
	return out
}

// leader gives the process of a thread (proc_pid_status(5)); itself where that
// cannot be read.
func leader(tid int) int {
	if v, err := strconv.Atoi(statusField(tid, "Tgid")); err == nil {
		return v
	}
	return tid
}

// lives reports whether there is a thread of this number.
func lives(tid int) bool {
	_, err := os.Stat(fmt.Sprintf("/proc/%d/stat", tid))
	return err == nil
}

func statusField(tid int, name string) string {
	status, _ := readProc(fmt.Sprintf("/proc/%d/status", tid)) // gone: every field is empty
	for line := range bytes.Lines(status) {
		if v, ok := bytes.CutPrefix(line, []byte(name+":")); ok {
			return string(bytes.TrimSpace(v))
		}
	}
	return ""
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
	fields := strings.Fields(s[strings.LastIndexByte(s, ')')+1:])
	if len(fields) < 46 {
		return procStat{}, fmt.Errorf("read stat: %d fields after the command", len(fields))
	}
	parent, err := strconv.Atoi(fields[1])
	if err != nil {
		return procStat{}, fmt.Errorf("read stat: %w", err)
	}
	return procStat{parent: parent, start: fields[19], args: fields[45]}, nil
}

// interrupted reports whether a signal waits that the thread neither blocks
// nor ignores.
func interrupted(tid int) bool {
	mask := func(name string) uint64 {
		v, _ := strconv.ParseUint(statusField(tid, name), 16, 64) // unreadable: no signal
		return v
	}
	return (mask("SigPnd")|mask("ShdPnd"))&^(mask("SigBlk")|mask("SigIgn")) != 0
}
