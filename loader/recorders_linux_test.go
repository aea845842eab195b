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

	"github.com/cilium/ebpf"
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

// startSteady starts it in a sandbox; end ends it, and says how often.
func startSteady(t *testing.T, b *testBox, d string) (p *os.Process, end func() uint64) {
	t.Helper()
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
	return cmd.Process, func() uint64 {
		t.Helper()
		in.Close()
		text, _ := io.ReadAll(out)
		if err := cmd.Wait(); err != nil {
			t.Fatal(err)
		}
		made, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64)
		if err != nil || made == 0 {
			t.Fatalf("%q refusals, %v", text, err)
		}
		return made
	}
}

// theOther recorder's name.
var theOther = map[string]string{"fexit": "sys_exit", "sys_exit": "fexit"}

var fexitFor = map[string]Fexit{"fexit": FexitAlways, "sys_exit": FexitNever}

// Sandboxes that are there are recorded on as they were, whatever the next loader
// wants and is made of: nothing is missed, and nothing told twice. Without any, it
// has what it wants.
func TestTheRecorderChangesOnlyWhereThereIsNoSandbox(t *testing.T) {
	needFexit(t)
	for before, after := range theOther {
		t.Run(before, func(t *testing.T) {
			o := Options{Pin: pinDir(t), Cgroup: parentGroup(t), NoLSM: true, Fexit: fexitFor[before]}
			d := makeCorpusDir(t)
			w := newWorld(t, o)
			w.recordedBy(before)
			b := w.add(everything)
			p, end := startSteady(t, b, d)
			told := map[event.Operation]uint64{}
			next := func() {
				time.Sleep(300 * time.Millisecond)
				_ = p.Signal(unix.SIGSTOP) // or one on its way would be lost, and found
				time.Sleep(50 * time.Millisecond)
				w.stop()
				_ = p.Signal(unix.SIGCONT)
				for _, r := range b.records() {
					if strings.HasPrefix(string(r.Event.Object.Path), d+"/closed/") || r.Event.Detail != "" { // what a predecessor had begun to tell
						told[r.Event.Operation] += r.Event.Count
					}
				}
				for op, n := range w.lost {
					told[op] += n
				}
				w.close()
			}
			o.Fexit = fexitFor[after]
			for range 3 {
				next()
				w = newWorld(t, o)
				b.w = w
				w.recordedBy(before)
				changeAbout(t, o.Pin, func(a *about) { a.Build[0]++; a.Recorder[0]++ })
			}
			made := end()
			w.l.Flush()
			if err := w.l.RemoveSandbox(b.Info.ID); err != nil {
				t.Fatal(err)
			}
			next()
			if told[event.FileRead] != made || told[event.FileCreate] != made {
				t.Errorf("%d of %d looks recorded, and %d of %d new folders", told[event.FileRead], made, told[event.FileCreate], made)
			}
			w = newWorld(t, o)
			w.recordedBy(after)
			corpusIsRecordedOnce(t, w)
			w.stop()
			if err := w.l.Detach(); err != nil {
				t.Error(err)
			}
			if _, err := os.Stat(o.Pin); !os.IsNotExist(err) {
				t.Errorf("pins after Detach: %v", err)
			}
		})
	}
}

func TestAnotherVersionsRecorderStaysWhileThereIsASandbox(t *testing.T) {
	o := Options{Pin: pinDir(t), Cgroup: parentGroup(t), NoLSM: true}
	w := newWorld(t, o)
	b := w.addOnly(everything)
	program := func() ebpf.ProgramID {
		w.recordedBy("sys_exit")
		return must(w.l.links[syscallExit].Info()).Program
	}
	first := program()
	again := func() {
		w.close()
		changeAbout(t, o.Pin, func(a *about) { a.Build[0]++; a.Recorder[0]++ })
		w = newWorld(t, o)
	}
	again()
	if p := program(); p != first {
		t.Errorf("with a sandbox: program %d, was %d", p, first)
	}
	if err := w.l.RemoveSandbox(b.Info.ID); err != nil {
		t.Fatal(err)
	}
	again()
	if p := program(); p == first {
		t.Error("without a sandbox it is still there")
	}
	w.stop()
	if err := w.l.Detach(); err != nil {
		t.Error(err)
	}
}

func TestFexitProgramsThatArePinnedAreTakenOver(t *testing.T) {
	o := Options{Pin: pinDir(t), Cgroup: parentGroup(t), Fexit: FexitAlways}
	began := time.Now()
	first := fexitWorld(t, o)
	t.Logf("loaded in %v", time.Since(began))
	links := len(first.l.links)
	first.close()
	began = time.Now()
	second := newWorld(t, o)
	t.Logf("taken over in %v", time.Since(began))
	second.recordedBy("fexit")
	if len(second.l.links) != links {
		t.Errorf("%d links of %d", len(second.l.links), links)
	}
	corpusIsRecordedOnce(t, second)
	second.stop()
	if err := second.l.Detach(); err != nil {
		t.Error(err)
	}
}
