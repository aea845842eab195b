package sandbox

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/internal/event"
)

// maxCallers bounds what is remembered, two descriptors each; a payload can make
// threads without end.
const maxCallers = 128

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
	buf   statBuffer
}

type caller struct {
	thread    procThread
	seen      look
	process   event.Process
	ancestors []event.Process
}

// of gives the process that a waiting thread belongs to, nil if there is no
// such thread, and its ancestors inside the sandbox, nearest first.
func (c *callers) of(tid int) (*event.Process, []event.Process) {
	c.mu.Lock()
	defer c.mu.Unlock()
	k := c.known[tid]
	if k == nil || k.thread.look(&c.buf) != k.seen {
		if k = c.meet(tid); k == nil {
			return nil, nil
		}
	}
	p := k.process
	return &p, k.ancestors
}

// meet describes a thread anew, and remembers it.
func (c *callers) meet(tid int) *caller {
	if k := c.known[tid]; k != nil {
		k.thread.close()
		delete(c.known, tid)
	}
	thread, err := openThread(tid)
	if errors.Is(err, unix.EMFILE) {
		c.forget() // these can be had again
		thread, err = openThread(tid)
	}
	if err != nil {
		return nil
	}
	k := &caller{thread: thread, seen: thread.look(&c.buf)}
	p, above := (*event.Process)(nil), []event.Process(nil)
	if k.seen != (look{}) {
		p, above = c.ask(leader(tid), k.seen.parent)
	}
	if p == nil {
		thread.close()
		return nil
	}
	k.process, k.ancestors = *p, above
	if k.halfway() {
		thread.close()
		return k
	}
	if len(c.known) >= maxCallers {
		c.forget()
	}
	if c.known == nil {
		c.known = map[int]*caller{}
	}
	c.known[tid] = k
	return k
}

func (c *callers) forget() {
	for _, k := range c.known {
		k.thread.close()
	}
	clear(c.known)
}

// close is for when nobody asks any more.
func (c *callers) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.forget()
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

// interrupted reports whether a signal waits that the thread neither blocks
// nor ignores.
func interrupted(tid int) bool {
	mask := func(name string) uint64 {
		v, _ := strconv.ParseUint(statusField(tid, name), 16, 64) // unreadable: no signal
		return v
	}
	return (mask("SigPnd")|mask("ShdPnd"))&^(mask("SigBlk")|mask("SigIgn")) != 0
}
