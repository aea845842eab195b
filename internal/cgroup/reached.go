package cgroup

import (
	"strconv"
	"strings"
)

// Reached is what limits of a group have stopped so far.
type Reached struct {
	Killed  uint64 // processes, for want of memory
	Refused uint64 // new processes and threads
}

// counter reads one value of a file of counters (memory.events, pids.events); a
// name that is not there has counted nothing.
func counter(content, name string) uint64 {
	for line := range strings.Lines(content) {
		if f := strings.Fields(line); len(f) == 2 && f[0] == name {
			n, _ := strconv.ParseUint(f[1], 10, 64) // no number: nothing
			return n
		}
	}
	return 0
}
