package stage2

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// freezer is stage 2's: it stops everything in the sandbox but itself, and
// makes go on what it has stopped, when it has been told as often. Cgroups have a better freezer, which an
// ordinary user has not got.
type freezer struct {
	depth   int
	already map[int]bool // stopped before, by somebody else
	held    []Command    // what has to wait until it is over
	// swallow: the next stop of the payload is this one.
	swallow atomic.Bool
}

// freezeTime bounds the wait for processes that are in the middle of a system
// call.
const freezeTime = 200 * time.Millisecond

// freeze returns when all have stopped, or time is up. One kill(2) reaches all
// processes but this one, and none is born meanwhile: a fork that finds a signal
// pending starts anew (copy_process in kernel/fork.c). forks is held by who
// starts a process here: a child that is stopped before it executes would hold
// this process up, which shares its memory until then.
func (f *freezer) freeze(payload int, forks sync.Locker) {
	if f.depth++; f.depth > 1 {
		return
	}
	f.already = map[int]bool{}
	for _, p := range listProcesses() {
		if p.stopped {
			f.already[p.pid] = true
		}
	}
	f.swallow.Store(payload != 0 && !f.already[payload])
	forks.Lock()
	_ = unix.Kill(-1, unix.SIGSTOP) // ESRCH: there is nobody
	forks.Unlock()
	for end := time.Now().Add(freezeTime); time.Now().Before(end); time.Sleep(200 * time.Microsecond) {
		if !f.swallow.Load() && !slices.ContainsFunc(listProcesses(), func(p procState) bool { return !p.stopped }) {
			return
		}
	}
}

// thaw goes from the youngest branches to the root: a shell that goes on before
// its child would see it stopped, and say so.
func (f *freezer) thaw() (held []Command) {
	if f.depth == 0 {
		return nil
	}
	if f.depth--; f.depth > 0 {
		return nil
	}
	list := listProcesses()
	depth := map[int]int{}
	parents := map[int]int{}
	for _, p := range list {
		parents[p.pid] = p.parent
	}
	for _, p := range list {
		for up := p.pid; up > 1 && depth[p.pid] <= len(list); up = parents[up] {
			depth[p.pid]++
		}
	}
	slices.SortFunc(list, func(a, b procState) int { return depth[b.pid] - depth[a.pid] })
	for _, p := range list {
		if !f.already[p.pid] {
			_ = unix.Kill(p.pid, unix.SIGCONT) // ESRCH: killed meanwhile
		}
	}
	held = f.held
	f.already, f.held = nil, nil
	return held
}

// procState is what /proc says of a process of this pid namespace.
type procState struct {
	pid, parent int
	stopped     bool // or dead
}

// listProcesses leaves process 1 out.
func listProcesses() []procState {
	dirs, _ := filepath.Glob("/proc/[0-9]*/stat") // the pattern is well-formed
	var out []procState
	for _, name := range dirs {
		b, err := os.ReadFile(name)
		if err != nil {
			continue // it has ended
		}
		pid, _ := strconv.Atoi(strings.Split(name, "/")[2])
		_, rest, ok := cutLast(string(b), ") ")
		fields := strings.Fields(rest)
		if !ok || len(fields) < 2 || pid <= 1 {
			continue
		}
		parent, _ := strconv.Atoi(fields[1])
		out = append(out, procState{pid, parent, strings.Contains("TtZXx", fields[0])})
	}
	return out
}

func cutLast(s, sep string) (before, after string, found bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}
