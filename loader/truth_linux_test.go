package loader

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/internal/event"
)

// makeCorpusDir makes the files that the corpus fails upon, as seen by nobody.
func makeCorpusDir(t testing.TB) string {
	t.Helper()
	needRoot(t)
	d := scratchDir(t)
	for _, dir := range []string{"ro/d", "own", "closed"} {
		if err := os.MkdirAll(filepath.Join(d, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, mode := range map[string]os.FileMode{"ro/f": 0o644, "closed.txt": 0o600, "closed/secret": 0o644, "own/mine": 0o644} {
		if err := os.WriteFile(filepath.Join(d, name), make([]byte, 4096), mode); err != nil {
			t.Fatal(err)
		}
	}
	shut, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(shut) })
	for _, do := range []func() error{
		func() error { return unix.Bind(shut, &unix.SockaddrUnix{Name: d + "/own/shut"}) },
		func() error { return os.Chmod(d+"/own/shut", 0o600) },
		func() error { return os.Chmod(d, 0o755) },
		func() error { return os.Chmod(d+"/closed", 0o700) },
		func() error { return os.Chown(d+"/own", 65534, 65534) },
		func() error { return os.Chown(d+"/own/mine", 65534, 65534) },
		func() error { return os.Chown(d+"/ro/f", 65534, 65534) },
	} {
		if err := do(); err != nil {
			t.Fatal(err)
		}
	}
	return d
}

// asNobody runs the rest of the command as an ordinary user who sees d/ro
// read-only.
const asNobody = `mount --bind "$1/ro" "$1/ro" && mount -o remount,bind,ro "$1/ro" && shift &&
exec setpriv --reuid=65534 --regid=65534 --clear-groups --no-new-privs "$@"`

// copySelf gives the test binary a name that everybody may execute.
func copySelf(t testing.TB, dir, name string) string {
	t.Helper()
	b, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	to := filepath.Join(dir, name)
	if err := os.WriteFile(to, b, 0o755); err != nil {
		t.Fatal(err)
	}
	return to
}

// runCorpus runs the corpus under a tracer, if not empty, and gives what came of
// each attempt.
func runCorpus(t *testing.T, b *testBox, d, self string, tracer ...string) []truth {
	t.Helper()
	argv := append([]string{"--mount", "sh", "-c", asNobody, "sh", d}, tracer...)
	cmd := b.command("unshare", append(argv, self, d, "argument")...)
	cmd.Env = append(os.Environ(), "LOADER_PAYLOAD=corpus", "GODEBUG=asyncpreemptoff=1")
	var out bytes.Buffer
	cmd.Stdout = &out
	if err := cmd.Run(); err != nil {
		t.Fatalf("corpus: %v", err)
	}
	var all []truth
	for dec := json.NewDecoder(&out); dec.More(); {
		var one truth
		if err := dec.Decode(&one); err != nil {
			t.Fatal(err)
		}
		all = append(all, one)
	}
	return all
}

func isRefusal(errno int) bool {
	return slices.Contains([]unix.Errno{unix.EPERM, unix.EACCES, unix.EROFS, unix.EXDEV}, unix.Errno(errno))
}

// corpusRules: all of the file system is the sandbox's own, so that unix sockets
// are refused by permissions.
func corpusRules(d string) Rules {
	r := everything
	r.UnixDirs = []string{d}
	return r
}

func TestEveryRefusalOfTheCorpusIsRecordedOnce(t *testing.T) {
	corpusIsRecordedOnce(t, sharedWorld(t))
}

// corpusIsRecordedOnce gives the records, too.
func corpusIsRecordedOnce(t *testing.T, w *world) (mine []Record) {
	t.Helper()
	d := makeCorpusDir(t)
	b := w.add(corpusRules(d))
	self := copySelf(t, d, "corpus-program")
	want, got := map[string]int{}, map[string]int{}
	for _, a := range runCorpus(t, b, d, self) {
		if unix.Errno(a.Errno) == unix.ENOSYS {
			t.Logf("%s: not in this kernel", a.Call)
			continue
		}
		if !isRefusal(a.Errno) {
			t.Errorf("%s %s: %v, the corpus wants refusals", a.Call, a.Path, unix.Errno(a.Errno))
			continue
		}
		want[fmt.Sprint(recordedAs(a.Call), a.Path, a.To, unix.ErrnoName(unix.Errno(a.Errno)))]++
	}
	for _, r := range b.records() {
		p := r.Event.Process
		path := string(r.Event.Object.Path)
		if string(p.Exe) != self || r.Call == "bpf" || path != "" && !strings.HasPrefix(path, d) {
			continue // what Go and libraries try before main
		}
		mine = append(mine, r)
		got[fmt.Sprint(recordedAs(r.Call), quoted(string(r.Event.Object.Path)), quoted(string(r.Event.Object.To)), r.Event.Errno)] += int(r.Event.Count)
		if argv := fmt.Sprint(p.Argv); argv != fmt.Sprintf("[%s %s argument]", self, d) {
			t.Errorf("%s: argv %s", r.Call, argv)
		}
		inside := string(p.Cwd) == d+"/own" || r.Event.Layer == event.LayerCgroup || r.Event.Layer == event.LayerLSM // that is the folder at exec
		if p.UID != 65534 || !inside || string(p.Comm) != "corpus-program" {
			t.Errorf("%s: process %+v", r.Call, p)
		}
	}
	diff(t, want, got)
	if len(want) < 80 {
		t.Errorf("only %d different attempts", len(want))
	}
	return mine
}

func diff(t *testing.T, want, got map[string]int) {
	t.Helper()
	for _, k := range slices.Sorted(maps.Keys(want)) {
		if got[k] != want[k] {
			t.Errorf("missed: %s: recorded %d of %d", k, got[k], want[k])
		}
	}
	for _, k := range slices.Sorted(maps.Keys(got)) {
		if want[k] == 0 {
			t.Errorf("invented: %s: %d", k, got[k])
		}
	}
}

// straceLine is a call that failed, as strace writes it.
var straceLine = regexp.MustCompile(`(?m)^(\w+)\(.*\) += -1 (EPERM|EACCES|EROFS|EXDEV) `)

// recordedAs: a hook sees sendto(2) as one of the ways to send a message; strace
// may be older than a call.
func recordedAs(call string) string {
	switch call {
	case "sendto":
		return "sendmsg"
	case "socket_create":
		return "socket"
	case "syscall_0x1c4":
		return "fchmodat2"
	}
	return call
}

func TestRecordsAgreeWithStrace(t *testing.T) {
	strace, err := exec.LookPath("strace")
	if err != nil {
		t.Skip("strace is not installed")
	}
	d := makeCorpusDir(t)
	w := sharedWorld(t)
	b := w.add(corpusRules(d))
	self := copySelf(t, d, "corpus-program")
	if err := os.Mkdir(d+"/trace", 0o777); err != nil {
		t.Fatal(err)
	}
	os.Chmod(d+"/trace", 0o777)
	runCorpus(t, b, d, self, strace, "-ff", "-qq", "-s", "0", "-o", d+"/trace/of")
	want, got := map[string]int{}, map[string]int{}
	files, _ := filepath.Glob(d + "/trace/of.*")
	for _, f := range files {
		tid, _ := strconv.Atoi(f[strings.LastIndex(f, ".")+1:])
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range straceLine.FindAllStringSubmatch(string(text), -1) {
			want[fmt.Sprintf("thread %d: %s %s", tid, recordedAs(m[1]), m[2])]++
		}
	}
	for _, r := range b.records() {
		if string(r.Event.Process.Exe) == self {
			got[fmt.Sprintf("thread %d: %s %s", r.TID, recordedAs(r.Call), r.Event.Errno)] += int(r.Event.Count)
		}
	}
	if len(want) < 50 {
		t.Fatalf("strace saw only %d kinds of refusals", len(want))
	}
	diff(t, want, got)
}
