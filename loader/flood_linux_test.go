package loader

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/bpf"
	"github.com/sallyport/sallyport/internal/event"
)

func init() { payloads["flood"] = flood }

// flood is refused as often in a second as it is told, for a second, by two
// threads, and prints how often that was.
func flood(args []string) int {
	rate, unique := must(strconv.Atoi(args[1])), args[2] == "unique"
	var done atomic.Int64
	var wg sync.WaitGroup
	for thread := range 2 {
		wg.Go(func() {
			runtime.LockOSThread()
			path := append([]byte(args[0]+"/"+strconv.Itoa(thread)+"-0000000000"), 0)
			number := path[len(path)-11 : len(path)-1]
			for start, n := time.Now(), 0; ; n++ {
				if n%64 == 0 {
					passed := time.Since(start)
					if passed > time.Second {
						return
					}
					if ahead := time.Duration(n)*2*time.Second/time.Duration(rate) - passed; ahead > time.Millisecond {
						time.Sleep(ahead)
					}
				}
				if unique {
					for i, v := len(number)-1, n; i >= 0; i, v = i-1, v/10 {
						number[i] = byte('0' + v%10)
					}
				}
				unix.RawSyscall(unix.SYS_FACCESSAT, uintptr(1<<64-100), uintptr(unsafe.Pointer(&path[0])), 0)
				done.Add(1)
			}
		})
	}
	wg.Wait()
	fmt.Println(done.Load())
	return 0
}

// flooded runs a flood and returns how many refusals there were, how many of
// them events stand for, and how many were said to be lost.
func flooded(t testing.TB, w *world, d, self string, rate int, kind string) (made, told, lost uint64) {
	t.Helper()
	b := w.add(everything)
	before := w.lostSoFar(event.FileRead)
	cmd := nobody(b.command(self, d+"/closed", strconv.Itoa(rate), kind))
	cmd.Env = append(os.Environ(), "LOADER_PAYLOAD=flood", "GODEBUG=asyncpreemptoff=1")
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	made, err = strconv.ParseUint(strings.TrimSpace(string(out)), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range b.records() {
		path := string(r.Event.Object.Path)
		if r.Call == "faccessat" && (path == "" || strings.HasPrefix(path, d+"/closed/")) {
			told += r.Event.Count
		}
	}
	return made, told, w.lostSoFar(event.FileRead) - before
}

func (w *world) lostSoFar(op event.Operation) uint64 {
	w.l.Flush()
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.lost[op]
}

func TestNoRefusalOfAFloodIsUnaccountedFor(t *testing.T) {
	for _, tt := range []struct {
		rate int
		kind string
	}{
		{10_000, "same"}, {100_000, "same"}, {1_000_000, "same"},
		{10_000, "unique"}, {100_000, "unique"}, {1_000_000, "unique"},
	} {
		t.Run(fmt.Sprint(tt.rate, " a second, ", tt.kind), func(t *testing.T) {
			if tt.rate > 10_000 && testing.Short() {
				t.Skip("takes both CPUs")
			}
			d := makeCorpusDir(t)
			w := newWorld(t, Options{})
			made, told, lost := flooded(t, w, d, copySelf(t, d, "flooder"), tt.rate, tt.kind)
			t.Logf("%d made, %d told, %d lost", made, told, lost)
			if made != told+lost {
				t.Errorf("%d refusals: events stand for %d, %d are said to be lost", made, told, lost)
			}
			if tt.kind == "same" && lost != 0 {
				t.Errorf("%d lost", lost)
			}
		})
	}
}

// Fexit programs can be preempted where the kernel is, and are left out meanwhile for
// all others on that CPU, which the kernel counts.
func TestNoRefusalOfAFloodByFexitIsUnaccountedFor(t *testing.T) {
	w := fexitWorld(t, Options{NoLSM: true})
	for _, kind := range []string{"same", "unique"} {
		t.Run(kind, func(t *testing.T) {
			mine := *w
			mine.t = t
			before, skipped := mine.lostSoFar(event.FileRead), mine.lostSoFar(event.OpUnknown)
			var made, told atomic.Uint64
			var wg sync.WaitGroup
			for i := range 2 * runtime.NumCPU() {
				d := makeCorpusDir(t)
				self := copySelf(t, d, fmt.Sprint("flooder", i))
				wg.Go(func() {
					m, n, _ := flooded(t, &mine, d, self, 1_000_000, kind)
					made.Add(m)
					told.Add(n)
				})
			}
			wg.Wait()
			lost := mine.lostSoFar(event.FileRead) - before
			skipped = mine.lostSoFar(event.OpUnknown) - skipped
			t.Logf("%d made, %d told, %d lost, %d left out", made.Load(), told.Load(), lost, skipped)
			if got := told.Load() + lost; made.Load() > got+skipped || preempts() == nil && made.Load() != got {
				t.Errorf("%d refusals: events stand for %d, %d are said to be lost, %d left out", made.Load(), told.Load(), lost, skipped)
			}
		})
	}
}

func TestAFullRingBufferLosesRecordsButNoNumber(t *testing.T) {
	d := makeCorpusDir(t)
	w := newWorld(t, Options{RingBytes: 4096})
	made, told, lost := flooded(t, w, d, copySelf(t, d, "flooder"), 100_000, "unique")
	c, err := w.l.Counters()
	if err != nil {
		t.Fatal(err)
	}
	if made != told+lost || c.RingFull[event.FileRead] == 0 || c.Lost[event.FileRead] != lost {
		t.Errorf("%d made, %d told, %d lost; counters %+v", made, told, lost, c)
	}
	b := w.add(everything)
	b.run(t, copySelf(t, d, "later"), "look", d+"/closed/secret")
	if e := b.one(t, d+"/closed/secret"); string(e.Process.Exe) != d+"/later" {
		t.Errorf("after the flood: %+v", e)
	}
}

func TestProcessesWhoseEndWasLostAreForgotten(t *testing.T) {
	d := makeCorpusDir(t)
	w := newWorld(t, Options{RingBytes: 4096})
	b := w.add(everything)
	w.stop() // nobody reads
	b.run(t, copySelf(t, d, "program"), "children", d+"/closed.txt")
	ended := func() (n int) {
		var k uint64
		var v bpf.KernelProc
		for it := w.l.maps["procs"].Iterate(); it.Next(&k, &v); {
			if v.Ended != 0 {
				n++
			}
		}
		return n
	}
	if n := ended(); n < 300 {
		t.Errorf("%d processes are kept while nobody reads, want all 301", n)
	}
	w.read()
	w.l.Flush()
	w.l.Flush()
	if n := ended(); n != 0 {
		t.Errorf("%d processes that ended are kept", n)
	}
}
