package bench

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// place is an ordinary user's working directory.
type place struct {
	binary, home, work string
	uid                int
}

func newPlace(b *testing.B) *place {
	b.Helper()
	dir, err := os.MkdirTemp("/var/tmp", "sallyport-bench-")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { os.RemoveAll(dir) })
	p := &place{binary: os.Getenv("SALLYPORT_BIN"), home: filepath.Join(dir, "home"), work: filepath.Join(dir, "home/work"), uid: os.Getuid()}
	if p.uid == 0 {
		p.uid = 65534 // a run as root is another user's
	}
	if err := os.MkdirAll(p.work, 0o755); err != nil {
		b.Fatal(err)
	}
	for _, d := range []string{dir, p.home, p.work} {
		if err := os.Chmod(d, 0o755); err != nil {
			b.Fatal(err)
		}
		if err := os.Chown(d, p.uid, p.uid); err != nil && os.Getuid() == 0 {
			b.Fatal(err)
		}
	}
	if p.binary == "" {
		p.binary = filepath.Join(dir, "sallyport")
		build := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", dir+"/", "github.com/sallyport/sallyport/cmd/...")
		if out, err := build.CombinedOutput(); err != nil {
			b.Fatalf("build sallyport: %v\n%s", err, out)
		}
	}
	return p
}

// command is a command as the ordinary user starts it.
func (p *place) command(argv ...string) *exec.Cmd {
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Dir = p.work
	cmd.Env = []string{"HOME=" + p.home, "PATH=/usr/local/bin:/usr/bin:/bin"}
	if os.Getuid() == 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(p.uid), Gid: uint32(p.uid)}}
	}
	return cmd
}

// bubblewrap gives the command line of bubblewrap alone with the mounts that a
// run has.
func (p *place) bubblewrap(b *testing.B) []string {
	b.Helper()
	out, err := p.command(p.binary, "run", "--dry-run", "--", "true").Output()
	if err != nil {
		b.Fatalf("run --dry-run: %v", err)
	}
	_, rest, ok := strings.Cut(string(out), "\n# bubblewrap\n")
	line, _, _ := strings.Cut(rest, "\n")
	args := strings.Fields(line)
	if !ok || len(args) < 10 {
		b.Fatalf("run --dry-run shows no bubblewrap:\n%s", out)
	}
	file := filepath.Join(p.work, "empty")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		b.Fatal(err)
	}
	for i, a := range args {
		if a == "--ro-bind-data" { // of a descriptor that nobody has here
			args[i], args[i+1] = "--ro-bind", file
		}
	}
	args[len(args)-1] = "true" // in place of stage 2
	return args
}

// contender is one of those that are measured side by side.
type contender struct {
	name string
	argv []string
	env  []string // more of it
}

// clock is a command that tells when it began, in nanoseconds since 1970.
var clock = []string{"date", "+%s%N"}

func (c contender) tellsTime() bool {
	return slices.Equal(c.argv[max(0, len(c.argv)-len(clock)):], clock)
}

// cost is what one command took: by the clock, and of the processors, with all
// that it has waited for; and how long it was until the command itself began.
type cost struct{ wall, cpu, start time.Duration }

func (p *place) once(b *testing.B, c contender) cost {
	cmd := p.command(c.argv...)
	cmd.Env = append(cmd.Env, c.env...)
	var out, errOut strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errOut
	start := time.Now()
	if err := cmd.Run(); err != nil {
		b.Fatalf("%s: %v\n%s", c.name, err, errOut.String())
	}
	took := cost{wall: time.Since(start), cpu: cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()}
	if c.tellsTime() {
		began, err := strconv.ParseInt(strings.TrimSpace(out.String()), 10, 64)
		if err != nil {
			b.Fatalf("%s: when did it begin: %v", c.name, err)
		}
		took.start = time.Duration(began - start.UnixNano())
	}
	return took
}

// race runs the contenders in turn, so that the noise of the machine meets them
// alike, and reports the median of each and the ratios to the first.
func (p *place) race(b *testing.B, contenders ...contender) {
	b.Helper()
	p.raceAfter(b, func() {}, contenders...)
}

// raceAfter prepares each turn, which is not measured.
func (p *place) raceAfter(b *testing.B, prepare func(), contenders ...contender) {
	b.Helper()
	wall, cpu, start := make([][]time.Duration, len(contenders)), make([][]time.Duration, len(contenders)), make([][]time.Duration, len(contenders))
	for _, c := range contenders {
		prepare()
		p.once(b, c) // warm
	}
	for b.Loop() {
		for i, c := range contenders {
			prepare()
			cost := p.once(b, c)
			wall[i], cpu[i], start[i] = append(wall[i], cost.wall), append(cpu[i], cost.cpu), append(start[i], cost.start)
		}
	}
	b.ReportMetric(0, "ns/op") // of all together: says nothing
	first, firstStart := median(wall[0]), median(start[0])
	for i, c := range contenders {
		m := median(wall[i])
		b.ReportMetric(milliseconds(m), c.name+"-ms")
		b.ReportMetric(milliseconds(median(cpu[i])), c.name+"-cpu-ms")
		if c.tellsTime() {
			began := median(start[i])
			b.ReportMetric(milliseconds(began), c.name+"-to-start-ms")
			if i > 0 {
				b.ReportMetric(float64(began)/float64(firstStart), c.name+"/"+contenders[0].name+"-to-start")
			}
		}
		if i > 0 {
			b.ReportMetric(float64(first)/float64(m), contenders[0].name+"/"+c.name)
		}
	}
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func median(d []time.Duration) time.Duration {
	slices.Sort(d)
	return d[len(d)/2]
}

// BenchmarkRunBesideBubblewrap is what a boundary costs: the same command, in
// bubblewrap alone with the same mounts and no network, and by itself.
func BenchmarkRunBesideBubblewrap(b *testing.B) {
	p := newPlace(b)
	p.race(b,
		contender{name: "sallyport", argv: []string{p.binary, "run", "--", "true"}},
		contender{name: "bwrap", argv: slices.Insert(p.bubblewrap(b), 1, "--unshare-net")},
		contender{name: "true", argv: []string{"true"}})
}

// BenchmarkRunBesideSRT needs SALLYPORT_SRT, the path of npm's
// @anthropic-ai/sandbox-runtime; 'make bench' fetches it.
func BenchmarkRunBesideSRT(b *testing.B) {
	srt := os.Getenv("SALLYPORT_SRT")
	if srt == "" {
		b.Skip("SALLYPORT_SRT is not set; 'make bench' sets it")
	}
	p := newPlace(b)
	settings := `{"network":{"allowedDomains":[],"deniedDomains":[]},"filesystem":{"denyRead":["~/.ssh"],"allowWrite":["."],"denyWrite":[]}}`
	file := filepath.Join(p.home, "srt.json") // under another name than sallyport reads
	if err := os.WriteFile(file, []byte(settings), 0o644); err != nil {
		b.Fatal(err)
	}
	p.race(b,
		contender{name: "srt", argv: []string{srt, "--settings", file, "true"}},
		contender{name: "sallyport", argv: []string{p.binary, "run", "--", "true"}})
}
