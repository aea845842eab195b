package loader

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

func init() { payloads["time"] = timePayload }

// timed are what is timed, the nanoseconds that one takes.
var timed = map[string]func(){
	"getppid": func() { unix.RawSyscall(unix.SYS_GETPPID, 0, 0, 0) },
	"tcp":     func() { dialOnce(unix.SOCK_STREAM, "198.18.0.1:9") },
	"udp":     func() { dialOnce(unix.SOCK_DGRAM, "198.18.0.1:53") },
}

// dialOnce connects to where nobody listens: no time goes into serving.
func dialOnce(kind int, to string) {
	a := netip.MustParseAddrPort(to)
	fd, err := unix.Socket(unix.AF_INET, kind, 0)
	if err == nil {
		unix.Connect(fd, &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()})
		unix.Close(fd)
	}
}

func cpuTime() time.Duration {
	var t unix.Timespec
	must(0, unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t))
	return time.Duration(t.Nano())
}

// timePayload prints how long one takes: the best of twenty, in time on the CPU,
// since the machine is others', too.
func timePayload(args []string) int {
	do, n := timed[args[0]], must(strconv.Atoi(args[1]))
	best := time.Duration(1 << 62)
	for range 20 {
		start := cpuTime()
		for range n {
			do()
		}
		best = min(best, cpuTime()-start)
	}
	fmt.Println(float64(best.Nanoseconds()) / float64(n))
	return 0
}

func timeOf(b *testing.B, prepare func(*exec.Cmd) *exec.Cmd, what string, n int) float64 {
	b.Helper()
	cmd := prepare(exec.Command("unshare", "--net", "sh", "-c", ownNet, "sh", "/proc/self/exe", what, strconv.Itoa(n)))
	self, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	cmd.Args[6] = self
	cmd.Env = append(os.Environ(), "LOADER_PAYLOAD=time")
	out, err := cmd.Output()
	if err != nil {
		b.Fatal(err)
	}
	v, err := strconv.ParseFloat(strings.TrimSpace(string(out)), 64)
	if err != nil {
		b.Fatal(err)
	}
	return v
}

// BenchmarkCost compares calls without the programs, with them but outside every
// sandbox, and inside of one.
func BenchmarkCost(b *testing.B) {
	plain := func(c *exec.Cmd) *exec.Cmd { return c }
	for what, n := range map[string]int{"getppid": 300_000, "tcp": 2000, "udp": 10_000} {
		b.Run(what, func(b *testing.B) {
			var bare, outside, inside float64
			for range b.N {
				bare = timeOf(b, plain, what, n)
				w := &world{t: &testing.T{}, story: &story{}}
				parent := parentGroup(b)
				l, err := Load(Options{Cgroup: parent})
				if err != nil {
					b.Fatal(err)
				}
				w.l, w.parent = l, parent
				outside = timeOf(b, plain, what, n)
				box := w.add(everything)
				inside = timeOf(b, func(c *exec.Cmd) *exec.Cmd { return box.command(c.Path, c.Args[1:]...) }, what, n)
				l.Close()
			}
			b.ReportMetric(bare, "ns/bare")
			b.ReportMetric(outside-bare, "ns/outside")
			b.ReportMetric(inside-bare, "ns/inside")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// BenchmarkLoad is what a run pays without an agent.
func BenchmarkLoad(b *testing.B) {
	parent := parentGroup(b)
	for b.Loop() {
		l, err := Load(Options{Cgroup: parent})
		if err != nil {
			b.Fatal(err)
		}
		l.Close()
	}
}

// BenchmarkSandbox is what a run pays with one.
func BenchmarkSandbox(b *testing.B) {
	l, err := Load(Options{Cgroup: parentGroup(b)})
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	for b.Loop() {
		if err := l.AddSandbox(1, everything); err != nil {
			b.Fatal(err)
		}
		if err := l.RemoveSandbox(1); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkPrograms reports how long the programs themselves take for a connect,
// by the kernel's own clock, which is some 20 ns too long.
func BenchmarkPrograms(b *testing.B) {
	stats, err := ebpf.EnableStats(uint32(unix.BPF_STATS_RUN_TIME))
	if err != nil {
		b.Skipf("statistics: %v", err)
	}
	defer stats.Close()
	w := &world{t: &testing.T{}, story: &story{}, parent: parentGroup(b)}
	if w.l, err = Load(Options{Cgroup: w.parent}); err != nil {
		b.Fatal(err)
	}
	defer w.l.Close()
	box := w.add(everything)
	for b.Loop() {
		for _, what := range []string{"tcp", "udp"} {
			timeOf(b, func(c *exec.Cmd) *exec.Cmd { return box.command(c.Path, c.Args[1:]...) }, what, 2000)
		}
	}
	for _, name := range []string{"socket_create", "connect4", "connecting", "syscall_exit"} {
		s, err := w.l.programs[name].Stats()
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(s.Runtime.Nanoseconds())/float64(max(1, s.RunCount)), "ns/"+name)
	}
	b.ReportMetric(0, "ns/op")
}
