package loader

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/bpf"
	"github.com/sallyport/sallyport/internal/event"
)

// pinDir is a folder on a bpffs of the test's own.
func pinDir(t *testing.T) string {
	t.Helper()
	needRoot(t)
	dir := scratchDir(t)
	if err := MountPins(dir); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Errorf("unmount: %v", err)
		}
	})
	return filepath.Join(dir, "pins")
}

// refusal runs a program that is refused a datagram, or not.
func refused(t *testing.T, b *testBox) bool {
	t.Helper()
	out, err := b.command("python3", "-S", "-c", `from socket import *
try: socket(AF_INET, SOCK_DGRAM).connect(("192.0.2.1", 99))
except PermissionError: print("refused")
except OSError: pass`).Output()
	if err != nil {
		t.Fatal(err)
	}
	return string(out) == "refused\n"
}

func TestWhatIsPinnedOutlivesItsLoader(t *testing.T) {
	o := Options{Pin: pinDir(t), Cgroup: parentGroup(t)}
	first := newWorld(t, o)
	b := first.add(everything)
	if !refused(t, b) || len(b.records()) != 1 {
		t.Fatalf("before: records %+v", b.records())
	}
	first.close()
	for range 2 {
		if !refused(t, b) {
			t.Error("nothing is refused while nobody reads")
		}
	}
	second := newWorld(t, o)
	if ids := second.l.Sandboxes(); len(ids) != 1 || ids[0] != b.Info.ID {
		t.Errorf("adopted sandboxes %v, want %d", ids, b.Info.ID)
	}
	b.w = second
	if !refused(t, b) {
		t.Error("nothing is refused after adopting")
	}
	told := uint64(0)
	for _, r := range b.records() {
		told += r.Event.Count
		if r.Event.Process == nil || len(r.Event.Process.Argv) == 0 {
			t.Errorf("process %+v", r.Event.Process)
		}
	}
	if lost := second.lostSoFar(event.NetUDP); told+lost != 3 || lost != 0 {
		t.Errorf("%d told and %d lost of 3 since the first loader", told, lost)
	}
	if c, err := second.l.Counters(); err != nil || c.Seen[event.NetUDP] != 4 {
		t.Errorf("counters %+v, %v; want 4 in all", c, err)
	}
	if err := second.l.RemoveSandbox(b.Info.ID); err != nil {
		t.Error(err)
	}
	second.stop()
	if err := second.l.Detach(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(o.Pin); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("pins after Detach: %v", err)
	}
	if refused(t, b) {
		t.Error("still refused after Detach")
	}
}

func TestNothingThatHappensWhileNobodyReadsIsUnaccountedFor(t *testing.T) {
	o := Options{Pin: pinDir(t), Cgroup: parentGroup(t)}
	d := makeCorpusDir(t)
	first := newWorld(t, o)
	b := first.add(everything)
	self := copySelf(t, d, "flooder")
	first.stop() // from here on nobody reads
	cmd := nobody(b.command(self, d+"/closed", "20000", "same"))
	cmd.Env = append(os.Environ(), "LOADER_PAYLOAD=flood")
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	first.close()
	second := newWorld(t, o)
	defer second.l.Detach()
	b.w = second
	told := uint64(0)
	for _, r := range b.under(d + "/closed/") {
		told += r.Event.Count
	}
	var made uint64
	for _, c := range strings.TrimSpace(string(out)) {
		made = made*10 + uint64(c-'0')
	}
	if lost := second.lostSoFar(event.FileRead); told+lost != made || told == 0 {
		t.Errorf("%d told and %d lost of %d", told, lost, made)
	}
}

func TestANewBuildTakesThePlaceOfAnOldOne(t *testing.T) {
	o := Options{Pin: pinDir(t), Cgroup: parentGroup(t)}
	first := newWorld(t, o)
	b := first.add(everything)
	first.close()
	changeAbout(t, o.Pin, func(a *about) { a.Build[0]++ })
	second := newWorld(t, o)
	b.w = second
	if !refused(t, b) {
		t.Error("nothing is refused")
	}
	if list := b.records(); len(list) != 1 || list[0].Event.Count != 1 {
		t.Errorf("records %+v, want one", list)
	}
	second.stop()
	if err := second.l.Detach(); err != nil {
		t.Error(err)
	}
}

// changeAbout makes the pins look as if something else had made them.
func changeAbout(t *testing.T, dir string, change func(*about)) {
	t.Helper()
	m, err := ebpf.LoadPinnedMap(filepath.Join(dir, "about"), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	var a about
	if err := m.Lookup(uint32(0), &a); err != nil {
		t.Fatal(err)
	}
	change(&a)
	if err := m.Put(uint32(0), a); err != nil {
		t.Fatal(err)
	}
}

func TestPinsThatDoNotFitAreRefused(t *testing.T) {
	o := Options{Pin: pinDir(t), Cgroup: parentGroup(t)}
	first := newWorld(t, o)
	if _, err := Load(o); !errors.Is(err, ErrInUse) {
		t.Errorf("a second loader: %v, want ErrInUse", err)
	}
	first.close()
	for name, change := range map[string]func(*about){
		"another ABI":    func(a *about) { a.ABI++ },
		"another cgroup": func(a *about) { a.ABI, a.Cgroup = uint32(bpf.KernelAbiABI), a.Cgroup+1 },
	} {
		changeAbout(t, o.Pin, change)
		var wrong *PinError
		if l, err := Load(o); !errors.As(err, &wrong) {
			t.Errorf("%s: %v, %v", name, l, err)
		}
	}
	plain := scratchDir(t)
	var wrong *PinError
	if _, err := Load(Options{Pin: plain, Cgroup: o.Cgroup}); !errors.As(err, &wrong) {
		t.Errorf("a plain folder: %v", err)
	}
}

func TestNothingIsAttachedWhereThereIsNoCgroup(t *testing.T) {
	needRoot(t)
	gone := parentGroup(t) + "/gone"
	for _, dir := range []string{gone, t.TempDir(), ""} {
		if l, err := Load(Options{Cgroup: dir}); err == nil {
			l.Close()
			t.Errorf("attached to %q", dir)
		}
	}
}

func TestLoadingLeaksNoDescriptor(t *testing.T) {
	parent := parentGroup(t)
	count := func() int {
		entries, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(entries)
	}
	var before int
	for i := range 3 {
		l, err := Load(Options{Cgroup: parent})
		if err != nil {
			t.Fatal(err)
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		if err := l.Close(); err != nil {
			t.Errorf("a second Close: %v", err)
		}
		if i == 0 {
			before = count() // what libraries keep for good is open by now
		}
	}
	if after := count(); after != before {
		t.Errorf("%d descriptors, %d before", after, before)
	}
}

func TestTwoHundredSandboxesComeAndGo(t *testing.T) {
	w := newWorld(t, Options{})
	var boxes []*testBox
	n := 200
	if testing.Short() {
		n = 20
	}
	for range n {
		boxes = append(boxes, w.add(everything))
	}
	for _, b := range boxes[:5] {
		if !refused(t, b) || len(b.records()) != 1 {
			t.Error("nothing recorded")
		}
	}
	for _, b := range boxes {
		if err := w.l.RemoveSandbox(b.Info.ID); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"sandboxes", "unix_names", "procs", "pids"} {
		var k, v any
		switch name {
		case "sandboxes":
			k, v = new(uint64), new(bpf.KernelSandbox)
		case "unix_names":
			k, v = new(bpf.KernelUnixKey), new(uint32)
		case "procs":
			k, v = new(uint64), new(bpf.KernelProc)
		default:
			k, v = new(uint32), new(uint64)
		}
		if it := w.l.maps[name].Iterate(); it.Next(k, v) {
			t.Errorf("%s: an entry is left", name)
		}
	}
}

func TestASandboxTooManyIsRefused(t *testing.T) {
	w := newWorld(t, Options{})
	var err error
	for id := uint64(1 << 40); err == nil && id < 1<<40+5000; id++ {
		err = w.l.AddSandbox(id, Rules{})
	}
	if !errors.Is(err, ErrFull) {
		t.Errorf("the last: %v, want ErrFull", err)
	}
	if err := w.l.AddSandbox(w.l.Sandboxes()[0], Rules{}); err == nil || errors.Is(err, ErrFull) {
		t.Errorf("one twice: %v", err)
	}
}

func TestRulesThatCannotHoldAreRefused(t *testing.T) {
	w := sharedWorld(t)
	for name, r := range map[string]Rules{
		"relative":  {UnixSockets: []string{"socket"}},
		"root":      {UnixDirs: []string{"/"}},
		"too long":  {UnixSockets: []string{"/" + strings.Repeat("x", 120)}},
		"with null": {UnixDirs: []string{"/tmp\x00"}},
	} {
		if err := w.l.AddSandbox(1, r); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if err := w.l.Start(1, nil); err == nil {
		t.Error("recording started for what is no sandbox")
	}
	if err := w.l.RemoveSandbox(1); err == nil {
		t.Error("removed what is no sandbox")
	}
}
