package loader

import (
	"runtime"
	"slices"
	"testing"

	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// BenchmarkOutside is what every system call of the machine costs more, outside
// every sandbox, while the programs are there: with and without the one that sees
// them all, by turns, since the machine is others', too. A call that succeeds is
// the rule; one that fails with EPERM is the worst.
func BenchmarkOutside(b *testing.B) {
	l, err := Load(Options{Cgroup: parentGroup(b)})
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	const name, calls, rounds = "syscall_exit", 100_000, 40
	_, _ = unix.Setsid() // from now on it is refused
	for what, nr := range map[string]uintptr{"getppid": unix.SYS_GETPPID, "refused": unix.SYS_SETSID} {
		b.Run(what, func(b *testing.B) {
			runtime.LockOSThread() // its time is what is measured
			defer runtime.UnlockOSThread()
			round := func() float64 {
				begin := cpuTime()
				for range calls {
					unix.RawSyscall(nr, 0, 0, 0)
				}
				return float64((cpuTime() - begin).Nanoseconds()) / calls
			}
			var with, without []float64
			for range b.N * rounds {
				with = append(with, round())
				if err := l.links[name].Close(); err != nil {
					b.Fatal(err)
				}
				without = append(without, round())
				again, err := link.AttachTracing(link.TracingOptions{Program: l.programs[name]})
				if err != nil {
					b.Fatal(err)
				}
				l.links[name] = again
			}
			slices.Sort(with)
			slices.Sort(without)
			half := len(with) / 2
			b.ReportMetric(without[0], "ns/bare")
			b.ReportMetric(with[0]-without[0], "ns/more-min")
			b.ReportMetric(with[half]-without[half], "ns/more-median")
			b.ReportMetric(0, "ns/op")
		})
	}
}
