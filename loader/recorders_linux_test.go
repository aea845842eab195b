package loader

import (
	"fmt"
	"io"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/internal/event"
)

func init() { payloads["steady"] = steady }

// steady is refused all the time, by a call that has a program of its own and by
// work upon a name, until its input ends, and prints how often.
func steady(args []string) int {
	runtime.LockOSThread()
	ended := make(chan struct{})
	go func() { _, _ = io.Copy(io.Discard, os.Stdin); close(ended) }()
	closed, dir := append([]byte(args[0]+"/closed/x"), 0), append([]byte(args[0]+"/closed/y"), 0)
	at := unix.AT_FDCWD
	for n := 0; ; n++ {
		select {
		case <-ended:
			fmt.Println(n)
			return 0
		default:
		}
		unix.RawSyscall(unix.SYS_FACCESSAT, uintptr(at), uintptr(unsafe.Pointer(&closed[0])), 0)
		unix.RawSyscall(unix.SYS_MKDIRAT, uintptr(at), uintptr(unsafe.Pointer(&dir[0])), 0)
		if n%16 == 0 {
			time.Sleep(time.Millisecond)
		}
	}
}

func TestOneRecorderTakesAnothersPlaceWithoutAGap(t *testing.T) {
	needFexit(t)
	o := Options{Pin: pinDir(t), Cgroup: parentGroup(t), NoLSM: true}
	d := makeCorpusDir(t)
	w := newWorld(t, o)
	b := w.add(everything)
	cmd := nobody(b.command(copySelf(t, d, "steady-program"), d))
	cmd.Env = append(os.Environ(), "LOADER_PAYLOAD=steady")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	told := map[event.Operation]uint64{}
	count := func(w *world) {
		for _, r := range b.records() {
			if strings.HasPrefix(string(r.Event.Object.Path), d+"/closed/") || r.Event.Detail != "" { // what a predecessor had begun to tell
				told[r.Event.Operation] += r.Event.Count
			}
		}
		for op, n := range w.lost {
			told[op] += n
		}
	}
	for _, fexit := range []bool{true, true, false, true, false} {
		time.Sleep(300 * time.Millisecond)
		w.stop()
		count(w)
		w.close()
		o.Fexit = fexit
		began := time.Now()
		w = newWorld(t, o)
		t.Logf("fexit %t: loaded in %v", fexit, time.Since(began))
		b.w = w
		if (w.l.HasFexit() == nil) != fexit || (w.l.links["syscall_exit"] == nil) != fexit {
			t.Errorf("fexit %t: %v", fexit, w.l.HasFexit())
		}
	}
	time.Sleep(300 * time.Millisecond)
	in.Close()
	text, _ := io.ReadAll(out)
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	made, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	w.l.Flush()
	w.stop()
	count(w)
	defer w.l.Detach()
	if made == 0 || told[event.FileRead] != made || told[event.FileCreate] != made {
		t.Errorf("%d of %d recorded, and %d of %d new folders", told[event.FileRead], made, told[event.FileCreate], made)
	}
}

func TestFexitProgramsThatArePinnedAreTakenOver(t *testing.T) {
	o := Options{Pin: pinDir(t), Cgroup: parentGroup(t)}
	first := fexitWorld(t, o)
	b := first.add(everything)
	links := len(first.l.links)
	first.close()
	o.Fexit = true
	began := time.Now()
	second := newWorld(t, o)
	t.Logf("taken over in %v", time.Since(began))
	b.w = second
	if err := second.l.HasFexit(); err != nil || len(second.l.links) != links {
		t.Errorf("%d links of %d, %v", len(second.l.links), links, err)
	}
	d := makeCorpusDir(t)
	cmd := nobody(b.command(copySelf(t, d, "look-program"), d+"/closed/x"))
	cmd.Env = append(os.Environ(), "LOADER_PAYLOAD=look")
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	n := uint64(0)
	for _, r := range b.under(d + "/closed/") {
		n += r.Event.Count
	}
	if n != 1 {
		t.Errorf("%d records, want 1", n)
	}
	second.stop()
	if err := second.l.Detach(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(o.Pin); !os.IsNotExist(err) {
		t.Errorf("pins after Detach: %v", err)
	}
}
