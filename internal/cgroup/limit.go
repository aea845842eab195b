package cgroup

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// Limits bound what the processes of a group may use together. The zero value
// bounds nothing.
type Limits struct {
	Memory uint64  `json:"memory,omitempty"` // bytes; nothing is swapped then
	PIDs   uint64  `json:"pids,omitempty"`   // processes and threads
	CPU    float64 `json:"cpu,omitempty"`    // processors
}

// cpuPeriod is the kernel's default, in microseconds (cpu.max in
// Documentation/admin-guide/cgroup-v2.rst).
const cpuPeriod = 100_000

// setting is what a limit is in one of a group's files.
type setting struct {
	controller, file, value string
	missing                 bool // may be missing
}

// settings lists the files that hold the limits, in the order to write them.
func (l Limits) settings() (list []setting) {
	if l.Memory > 0 {
		// Whole pages, as the kernel keeps it.
		list = append(list, setting{"memory", "memory.max", strconv.FormatUint(max(l.Memory&^4095, 4096), 10), false},
			setting{"memory", "memory.swap.max", "0", true}) // a kernel that does not count swap has none of it
	}
	if l.PIDs > 0 {
		list = append(list, setting{"pids", "pids.max", strconv.FormatUint(l.PIDs, 10), false})
	}
	if l.CPU > 0 {
		list = append(list, setting{"cpu", "cpu.max", fmt.Sprintf("%d %d", int64(math.Round(l.CPU*cpuPeriod)), cpuPeriod), false})
	}
	return list
}

// controllers names those that the limits take.
func (l Limits) controllers() (names []string) {
	for _, s := range l.settings() {
		if !slices.Contains(names, s.controller) {
			names = append(names, s.controller)
		}
	}
	return names
}

// lacking gives those that a cgroup.controllers file does not name.
func lacking(want []string, controllers string) (names []string) {
	have := strings.Fields(controllers)
	for _, w := range want {
		if !slices.Contains(have, w) {
			names = append(names, w)
		}
	}
	return names
}
