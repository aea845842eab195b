package policy

import (
	"cmp"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"
)

// Limits bound what a sandbox may use. The zero value bounds nothing.
type Limits struct {
	Memory uint64        // bytes, swap included
	PIDs   uint64        // processes and threads
	CPU    float64       // processors
	Time   time.Duration // by the clock
	// Rules say who asked, by key: "limits.memory".
	Rules map[string]Rule
}

// Cgroup reports whether a cgroup has to enforce any of them.
func (l Limits) Cgroup() bool { return l.Memory > 0 || l.PIDs > 0 || l.CPU > 0 }

// ownTasks are set aside for sallyport's own processes in a sandbox, and their
// threads.
const ownTasks = 32

// Tasks is the most that there may be of processes and threads in the sandbox,
// sallyport's own among them; 0: any number.
func (l Limits) Tasks() uint64 {
	if l.PIDs == 0 {
		return 0
	}
	return l.PIDs + ownTasks
}

// Limits gives the bounds of what a run may use.
func (p *Policy) Limits() Limits { return p.limits }

// mergeLimits takes the last value of each that files give; no more than any of
// those that only narrow.
func mergeLimits(files, narrow []*File) Limits {
	l := Limits{Rules: map[string]Rule{}}
	for i, f := range append(slices.Clone(files), narrow...) {
		lower := i >= len(files)
		for key, set := range map[string]bool{
			"limits.memory": replace(&l.Memory, f.limits.Memory, lower), "limits.pids": replace(&l.PIDs, f.limits.PIDs, lower),
			"limits.cpu": replace(&l.CPU, f.limits.CPU, lower), "limits.time": replace(&l.Time, f.limits.Time, lower),
		} {
			if set {
				l.Rules[key] = f.keys[key]
			}
		}
	}
	return l
}

// replace takes a value that was given; lower: only one below the old, if there
// is one.
func replace[T cmp.Ordered](old *T, v T, lower bool) bool {
	var zero T
	if v == zero || lower && *old != zero && *old <= v {
		return false
	}
	*old = v
	return true
}

func limits() shape {
	return object(map[string]shape{
		"memory": either(count(func(l *Limits) *uint64 { return &l.Memory }), memory),
		"pids":   count(func(l *Limits) *uint64 { return &l.PIDs }),
		"cpu":    cpus,
		"time": func(w *walker, n ast.Node) {
			duration(w, n)
			if w.sketch != nil {
				return
			}
			if s, ok := n.(*ast.StringNode); ok {
				w.file.limits.Time, _ = time.ParseDuration(s.Value) // bad: told above
			}
		},
	})
}

// count takes a whole number of at least 1.
func count(where func(*Limits) *uint64) shape {
	return integer(1, math.MaxInt64, func(f *File, n int, _ Rule) { *where(&f.limits) = uint64(n) })
}

// memory takes 512M, 2G: powers of 1024, as cgroups and systemd have them.
func memory(w *walker, n ast.Node) {
	if w.sketched(sketch{"type": "string", "pattern": "^[1-9][0-9]*[KMGT]?$"}) {
		return
	}
	s, ok := w.text(n)
	if !ok {
		return
	}
	unit := strings.IndexByte("KMGT", s[len(s)-1]) + 1
	number := s
	if unit > 0 {
		number = s[:len(s)-1]
	}
	v, err := strconv.ParseUint(number, 10, 64)
	if err != nil || v == 0 || s[0] == '+' || v > math.MaxInt64>>(10*unit) {
		w.fail(n, "", "%s wants a size such as 2G, not %s", w.key(), clip(s))
		return
	}
	w.file.limits.Memory = v << (10 * unit)
}

// leastCPU is what the kernel takes: a millisecond of its longest period.
const leastCPU = 0.01

// cpus takes 2, 1.5 or "150%".
func cpus(w *walker, n ast.Node) {
	if w.sketched(sketch{"anyOf": []sketch{{"type": "number", "minimum": leastCPU}, {"type": "string", "pattern": `^[0-9]+(\.[0-9]+)?%?$`}}}) {
		return
	}
	var v float64
	switch n := n.(type) {
	case *ast.FloatNode:
		v = n.Value
	case *ast.IntegerNode:
		v, _ = strconv.ParseFloat(n.GetToken().Value, 64)
	default:
		s, ok := w.text(n)
		if !ok {
			return
		}
		number, percent := strings.CutSuffix(s, "%")
		v, _ = strconv.ParseFloat(number, 64)
		if percent {
			v /= 100
		}
	}
	if !(v >= leastCPU && v <= 1e6) {
		w.fail(n, "", "%s wants a number of processors such as 1.5, of at least %v", w.key(), leastCPU)
		return
	}
	w.file.limits.CPU = v
}
