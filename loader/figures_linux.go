package loader

import (
	"fmt"
	"strings"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/internal/event"
)

// CountRuns has the kernel count the runs of all its programs and their time
// (Linux 5.8), until the result is called. It costs two readings of the clock a
// run, and takes CAP_SYS_ADMIN.
func CountRuns() (stop func(), err error) {
	c, err := ebpf.EnableStats(uint32(unix.BPF_STATS_RUN_TIME))
	if err != nil {
		return nil, fmt.Errorf("count runs of programs: %w", err)
	}
	return func() { c.Close() }, nil
}

// Programs gives what the kernel has counted of each program.
func (l *Loader) Programs() map[string]event.Program {
	out := map[string]event.Program{}
	for name, p := range l.programs {
		if s, err := p.Stats(); err == nil { // else it is not counted
			name = figureOf(name)
			out[name] = event.Program{Runs: out[name].Runs + s.RunCount, Time: out[name].Time + s.Runtime}
		}
	}
	return out
}

// figureOf joins what is attached to many functions.
func figureOf(name string) string {
	name = strings.TrimPrefix(name, fexitPin)
	for _, many := range []string{callExit, answerExit} {
		if strings.HasPrefix(name, many+"_") {
			return many
		}
	}
	return name
}

// tables are the maps that refuse more when they are full. The others forget
// what is oldest.
var tables = []string{"sandboxes", "unix_names", "unix_peers", "file_boxes", "file_names", "plants", "procs", "pids"}

// Maps counts the entries of tables. It goes through them: not for every moment.
func (l *Loader) Maps() map[string]event.Map {
	out := map[string]event.Map{}
	for _, name := range tables {
		m := l.maps[name]
		if m == nil {
			continue
		}
		n := uint64(0)
		key, next := make([]byte, m.KeySize()), make([]byte, m.KeySize())
		for err := m.NextKey(nil, next); err == nil && n < uint64(m.MaxEntries()); err = m.NextKey(key, next) {
			n++
			copy(key, next)
		}
		out[name] = event.Map{Entries: n, Capacity: uint64(m.MaxEntries())}
	}
	return out
}
