package loader

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/bpf"
	"github.com/sallyport/sallyport/internal/cgroup"
	"github.com/sallyport/sallyport/internal/event"
	"github.com/sallyport/sallyport/testvm"
)

// needFexit skips where the kernel takes no fexit programs; inside a test VM that
// is a failure, unless it is too old.
func needFexit(t testing.TB) {
	t.Helper()
	needRoot(t)
	if !has(fexitHelper) {
		t.Skip("this kernel has no bpf_loop (Linux 5.17)")
	}
	testvm.Require(t, testvm.BPFExit)
}

// fexitWorld is one where fexit programs record.
func fexitWorld(t *testing.T, o Options) *world {
	t.Helper()
	needFexit(t)
	o.Fexit = FexitAlways
	w := newWorld(t, o)
	w.recordedBy("fexit")
	return w
}

// recordedBy fails unless one recorder is there, this one, and not the other.
func (w *world) recordedBy(want string) {
	w.t.Helper()
	by, why := w.l.Recorder()
	calls := 0
	for name := range w.l.links {
		if strings.HasPrefix(name, fexitPin) {
			calls++
		}
	}
	if by != want || (want == "fexit") != (calls > 0) || (want == "fexit") != (w.l.links[syscallExit] == nil) {
		w.t.Fatalf("%s records, want %s (%v); %d fexit programs, syscall_exit %v", by, want, why, calls, w.l.links[syscallExit])
	}
}

func TestEveryRefusalOfTheCorpusIsRecordedOnceByFexit(t *testing.T) {
	began := time.Now()
	w := fexitWorld(t, Options{})
	t.Logf("loading and attaching %d programs took %v", len(w.l.programs), time.Since(began))
	for _, r := range corpusIsRecordedOnce(t, w) {
		if r.Event.Layer != event.LayerTrace {
			continue
		}
		byName := slices.ContainsFunc(works, func(k work) bool { return slices.Contains(k.calls, r.Call) })
		if want := map[bool]string{true: recorders[bpf.KernelHookHOOK_NAME], false: callExit}[byName]; r.seen != want {
			t.Errorf("%s was recorded by %s, want %s", r.Call, r.seen, want)
		}
		if byName && r.Event.Object.PathSource != "kernel" {
			t.Errorf("%s: the name is the %s's", r.Call, r.Event.Object.PathSource)
		}
	}
}

func TestWithoutFexitSyscallExitRecords(t *testing.T) {
	w := newWorld(t, Options{Fexit: FexitAlways, NoLSM: true})
	by, why := w.l.Recorder()
	if by == "fexit" {
		t.Skip("this kernel takes fexit programs")
	}
	w.recordedBy("sys_exit")
	t.Log(why)
	if c, err := w.l.Counters(); err != nil || len(w.l.Sandboxes()) > 0 {
		t.Errorf("%+v, %v", c, err)
	}
	corpusIsRecordedOnce(t, w)
}

// The verifier looks at them whatever they are attached to: as programs of another
// kind they can be loaded where fexit is refused.
func TestTheKernelAcceptsEveryFexitProgram(t *testing.T) {
	w := sharedWorld(t)
	if !has(fexitHelper) {
		t.Skip("this kernel has no bpf_loop (Linux 5.17)")
	}
	l := &Loader{opts: Options{Cgroup: w.parent, Fexit: FexitAlways}, types: w.l.types, names: w.l.names}
	own := must(bpf.LoadKernel())
	spec, err := l.findFexit(own)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.setConstants(spec, must(cgroup.Stat(w.parent))); err != nil {
		t.Fatal(err)
	}
	for name, p := range spec.Programs {
		if strings.HasPrefix(name, callExit) && name != callExit+"_chdir" {
			continue // it is the same
		}
		p.Type, p.AttachType, p.AttachTo, p.SectionName = ebpf.RawTracepoint, 0, "sys_exit", "raw_tp/sys_exit"
		if strings.HasPrefix(name, callRefused) { // its argument has a type
			p.Type, p.AttachType, p.SectionName = ebpf.Tracing, ebpf.AttachTraceRawTp, "tp_btf/sys_exit"
		}
		one := spec.Copy()
		one.Programs = map[string]*ebpf.ProgramSpec{name: p}
		coll, err := ebpf.NewCollectionWithOptions(one, ebpf.CollectionOptions{Cache: l.types,
			Programs: ebpf.ProgramOptions{KernelTypes: must(l.types.Kernel()), LogLevel: level()}})
		if err != nil {
			t.Errorf("%s: %+v", name, err)
			continue
		}
		t.Logf("%s: %s", name, coll.Programs[name].VerifierLog)
		coll.Close()
	}
}

func init() {
	payloads["ring-corpus"] = ringCorpus
}

// ringOps are what io_uring(7) does with names, in the folder of the corpus.
func ringOps(d string) map[string]ringOp {
	name := func(s string) unsafe.Pointer { return unsafe.Pointer(must(unix.BytePtrFromString(s))) }
	const cwd = unix.AT_FDCWD
	second := func(p unsafe.Pointer) uint64 { return uint64(uintptr(p)) }
	at := cwd
	down := uint32(int32(at))
	return map[string]ringOp{
		"openat":    {code: 18, fd: cwd, addr: name(d + "/closed.txt")},
		"statx":     {code: 21, fd: cwd, addr: name(d + "/closed/secret"), len: unix.STATX_TYPE, off: second(unsafe.Pointer(&unix.Statx_t{}))},
		"renameat2": {code: 35, fd: cwd, addr: name(d + "/ro/f"), off: second(name(d + "/ro/g")), len: down},
		"unlinkat":  {code: 36, fd: cwd, addr: name(d + "/ro/f")},
		"mkdirat":   {code: 37, fd: cwd, addr: name(d + "/ro/new"), len: 0o700},
		"symlinkat": {code: 38, fd: cwd, addr: name("target"), off: second(name(d + "/ro/new"))},
		"linkat":    {code: 39, fd: cwd, addr: name(d + "/ro/f"), off: second(name(d + "/ro/g")), len: down},
		"rmdir":     {code: 36, fd: cwd, addr: name(d + "/ro/d"), flags: unix.AT_REMOVEDIR},
	}
}

// ringNames are what must be recorded of them.
func ringNames(d string) map[string][2]string {
	return map[string][2]string{
		"openat": {d + "/closed.txt"}, "statx": {d + "/closed/secret"}, "renameat2": {d + "/ro/f", d + "/ro/g"},
		"unlinkat": {d + "/ro/f"}, "mkdirat": {d + "/ro/new"}, "symlinkat": {d + "/ro/new"},
		"linkat": {d + "/ro/f", d + "/ro/g"}, "rmdir": {d + "/ro/d"},
	}
}

// ringCorpus does each of them by the caller's thread or by a worker.
func ringCorpus(args []string) int {
	r, err := newRing()
	if err != nil {
		fmt.Println("ring:", err)
		return 1
	}
	for what, op := range ringOps(args[0]) {
		op.async = args[1] == "worker"
		if err := r.do(op); !isRefusal(int(errnoOf(err))) {
			fmt.Println(what, err)
			return 1
		}
	}
	return 0
}

func errnoOf(err error) unix.Errno {
	var errno unix.Errno
	errors.As(err, &errno)
	return errno
}

func TestWhatIoUringIsRefusedIsRecordedOnceAndWhoAskedForIt(t *testing.T) {
	w := fexitWorld(t, Options{})
	for _, how := range []string{"caller", "worker"} {
		t.Run(how, func(t *testing.T) {
			d := makeCorpusDir(t)
			mine := *w
			mine.t = t
			b := mine.add(everything)
			self := copySelf(t, d, "ring-program")
			cmd := b.command("unshare", "--mount", "sh", "-c", asNobody, "sh", d, self, d, how)
			cmd.Env = append(os.Environ(), "LOADER_PAYLOAD=ring-corpus")
			if out, err := cmd.Output(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			want, got := map[string]int{}, map[string]int{}
			for what, n := range ringNames(d) {
				if what == "rmdir" {
					what = "unlinkat"
				}
				want[fmt.Sprint("io_uring ", what, n)]++
			}
			for _, r := range b.records() {
				o, p := r.Event.Object, r.Event.Process
				if string(p.Exe) != self || !strings.HasPrefix(string(o.Path), d) {
					continue
				}
				got[fmt.Sprint(o.Syscall, [2]string{string(o.Path), string(o.To)})] += int(r.Event.Count)
				if string(p.Comm) != filepath.Base(self) || p.PID == 0 || len(p.Argv) != 3 || o.PathSource != "kernel" || p.UID != 65534 {
					t.Errorf("%s: process %+v, object %+v", o.Syscall, p, o)
				}
			}
			diff(t, want, got)
		})
	}
}
