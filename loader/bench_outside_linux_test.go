package loader

import (
	"runtime"
	"slices"
	"testing"
	"time"

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

// BenchmarkOutsideByFexit is the same where fexit programs record: a call that has
// none, two that have one, and what syscall_exit costs them. The programs take too
// long to come and go for turns.
func BenchmarkOutsideByFexit(b *testing.B) {
	needFexit(b)
	calls := map[string]func(){
		"getppid": func() { unix.RawSyscall(unix.SYS_GETPPID, 0, 0, 0) },
		"fchdir":  func() { unix.RawSyscall(unix.SYS_FCHDIR, ^uintptr(0), 0, 0) },
		"mkdirat": func() { unix.RawSyscall(unix.SYS_MKDIRAT, ^uintptr(0), 0, 0) },
	}
	least := func() map[string]float64 {
		const times, rounds = 20_000, 20
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		out := map[string]float64{}
		for name, call := range calls {
			for range rounds {
				begin := cpuTime()
				for range times {
					call()
				}
				if ns := float64((cpuTime() - begin).Nanoseconds()) / times; out[name] == 0 || ns < out[name] {
					out[name] = ns
				}
			}
		}
		return out
	}
	bare := least()
	for name, o := range map[string]Options{"fexit": {Fexit: FexitAlways, Supervised: true}, "sys_exit": {Supervised: true}} {
		o.Cgroup = parentGroup(b)
		began := time.Now()
		l, err := Load(o)
		if err != nil {
			b.Fatal(err)
		}
		took := time.Since(began)
		with := least()
		if by, err := l.Recorder(); by != name {
			b.Errorf("%s records, not %s: %v", by, name, err)
		}
		began = time.Now()
		l.Close()
		b.ReportMetric(took.Seconds()*1000, "ms-load/"+name)
		b.ReportMetric(time.Since(began).Seconds()*1000, "ms-close/"+name)
		for call, ns := range with {
			b.ReportMetric(ns/bare[call], call+"/"+name)
		}
	}
	b.ReportMetric(bare["getppid"], "ns/bare")
	b.ReportMetric(0, "ns/op")
}
