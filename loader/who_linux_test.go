package loader

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/internal/event"
)

func init() {
	payloads["look"] = func(args []string) int { look(args[0]); return 0 }
	payloads["again"] = func(args []string) int { look(args[0]); look(args[0]); look(args[0]); return 0 }
	payloads["make"] = func(args []string) int { _ = unix.Mkdirat(unix.AT_FDCWD, args[0], 0o700); return 0 }
	payloads["children"] = children
	payloads["threads"] = threads
	payloads["vanish"] = func(args []string) int {
		must(0, os.Remove(must(os.Executable())))
		look(args[0])
		return 0
	}
	payloads["lie"] = func(args []string) int {
		runtime.LockOSThread()
		name := []byte("[kworker/0:1]\x00")
		must(0, unix.Prctl(unix.PR_SET_NAME, uintptr(unsafe.Pointer(&name[0])), 0, 0, 0))
		look(args[0])
		return 0
	}
}

func init() { runtime.LockOSThread() } // main is the leader, so that its name is the group's

// look is refused: it asks for what only root may see.
func look(path string) { _ = unix.Access(path, unix.F_OK) }

// children makes processes that live for some microseconds: they fail to execute.
func children(args []string) int {
	for range 300 {
		_, err := syscall.ForkExec(args[0], []string{"never"}, nil)
		if err != syscall.EACCES {
			return 1
		}
	}
	return 0
}

func threads(args []string) int {
	var wg, all sync.WaitGroup
	all.Add(8)
	for i := range 8 {
		wg.Go(func() {
			runtime.LockOSThread()
			all.Done()
			all.Wait() // eight at once
			look(fmt.Sprintf("%s/%d-%d", args[0], i, unix.Gettid()))
		})
	}
	wg.Wait()
	return 0
}

// nobody makes a command run as an ordinary user.
func nobody(cmd *exec.Cmd) *exec.Cmd {
	cmd.SysProcAttr.Credential = &syscall.Credential{Uid: 65534, Gid: 65534, NoSetGroups: true}
	return cmd
}

// whoWorld is a sandbox with the corpus's files and a program that all may run.
func whoWorld(t *testing.T) (b *testBox, d, self string) {
	d = makeCorpusDir(t)
	b = sharedWorld(t).add(everything)
	return b, d, copySelf(t, d, "program")
}

func (b *testBox) run(t *testing.T, self, payload string, args ...string) int {
	t.Helper()
	cmd := nobody(b.command(self, args...))
	cmd.Env = append(os.Environ(), "LOADER_PAYLOAD="+payload)
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s: %v", payload, err)
	}
	return cmd.Process.Pid
}

// under gives the records about paths that begin so.
func (b *testBox) under(prefix string) (out []Record) {
	for _, r := range b.records() {
		if strings.HasPrefix(string(r.Event.Object.Path), prefix) {
			out = append(out, r)
		}
	}
	return out
}

func (b *testBox) one(t *testing.T, path string) event.Event {
	t.Helper()
	list := b.under(path)
	if len(list) != 1 {
		t.Fatalf("%d records about %s, want 1: %+v", len(list), path, list)
	}
	return list[0].Event
}

func TestProcessesThatLiveForMicrosecondsAreToldApart(t *testing.T) {
	b, d, self := whoWorld(t)
	pid := b.run(t, self, "children", d+"/closed.txt")
	pids := map[int]bool{}
	for _, r := range b.under(d + "/closed.txt") {
		p := r.Event.Process
		pids[p.PID] = true
		if string(p.Exe) != self || len(p.Argv) != 2 || r.Event.Operation != event.FileExec || p.PID == pid {
			t.Errorf("child %+v", p)
		}
		if a := r.Event.Ancestors; len(a) == 0 || a[0].PID != pid || string(a[0].Exe) != self {
			t.Errorf("ancestors %+v, want %d first", a, pid)
		}
	}
	if len(pids) != 300 {
		t.Errorf("%d children recorded of 300", len(pids))
	}
}

func TestThreadsBelongToTheirProcess(t *testing.T) {
	b, d, self := whoWorld(t)
	pid := b.run(t, self, "threads", d+"/closed")
	list := b.under(d + "/closed/")
	if len(list) != 8 {
		t.Errorf("%d records of 8 threads", len(list))
	}
	for _, r := range list {
		if p := r.Event.Process; p.PID != pid || string(p.Comm) != "program" {
			t.Errorf("process %+v, want pid %d", p, pid)
		}
		if !strings.HasSuffix(string(r.Event.Object.Path), fmt.Sprint("-", r.TID)) {
			t.Errorf("thread %d recorded for %s", r.TID, r.Event.Object.Path)
		}
	}
}

func TestADeletedExecutableKeepsItsName(t *testing.T) {
	b, d, _ := whoWorld(t)
	self := copySelf(t, d+"/own", "gone")
	var st unix.Stat_t
	if err := unix.Stat(self, &st); err != nil {
		t.Fatal(err)
	}
	b.run(t, self, "vanish", d+"/closed/secret")
	p := b.one(t, d+"/closed/secret").Process
	if string(p.Exe) != self || p.ExeDevIno != fmt.Sprintf("%d:%d", st.Dev, st.Ino) {
		t.Errorf("exe %s, %s; want %s, %d:%d", p.Exe, p.ExeDevIno, self, st.Dev, st.Ino)
	}
}

func TestANameThatLiesDoesNotHideTheExecutable(t *testing.T) {
	b, d, self := whoWorld(t)
	b.run(t, self, "lie", d+"/closed/secret")
	if p := b.one(t, d+"/closed/secret").Process; p.Comm != "[kworker/0:1]" || string(p.Exe) != self {
		t.Errorf("process %+v", p)
	}
}

func TestAncestorsThatHaveEndedAreListed(t *testing.T) {
	b, d, self := whoWorld(t)
	inner := fmt.Sprintf("(sleep 0.1; LOADER_PAYLOAD=look %s %s/closed/secret) & exit 0", self, d)
	cmd := nobody(b.command("/bin/sh", "-c", `/bin/sh -c "$1" grandchild & wait`, "outermost", inner))
	if _, err := cmd.Output(); err != nil { // waits for whoever holds the pipe
		t.Fatal(err)
	}
	e := b.one(t, d+"/closed/secret")
	var chain []string
	for _, a := range e.Ancestors {
		chain = append(chain, string(a.Argv[min(3, len(a.Argv)-1)]))
	}
	if n := len(chain); n < 2 || chain[0] != "grandchild" || chain[n-1] != "outermost" {
		t.Errorf("ancestors %q, want the grandchild first and the outermost last", chain)
	}
	for _, a := range e.Ancestors {
		if a.PID == 1 {
			t.Error("whoever adopted the orphan is listed as its ancestor")
		}
	}
}

func TestAnEventIsAboutWhatTheProcessWasThen(t *testing.T) {
	b, d, self := whoWorld(t)
	script := fmt.Sprintf("LOADER_PAYLOAD=look %s %s/closed/a; exec env LOADER_PAYLOAD=look %s %s/closed/b", self, d, self, d)
	cmd := nobody(b.command("/bin/sh", "-c", script))
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	a, second := b.one(t, d+"/closed/a"), b.one(t, d+"/closed/b")
	if len(a.Ancestors) == 0 || !strings.HasSuffix(string(a.Ancestors[0].Exe), "sh") {
		t.Errorf("ancestors of the first: %+v, want the shell that became something else since", a.Ancestors)
	}
	if second.Process.PID != cmd.Process.Pid || string(second.Process.Exe) != self {
		t.Errorf("second by %+v", second.Process)
	}
}

func TestALongCommandLineIsCutAndSaysSo(t *testing.T) {
	b, d, self := whoWorld(t)
	long := strings.Repeat("x", 1500)
	b.run(t, self, "look", d+"/closed/secret", long, long, "end")
	p := b.one(t, d+"/closed/secret").Process
	if !p.ArgvTruncated || len(p.Argv) != 4 || string(p.Argv[2]) != long {
		t.Errorf("%d arguments, truncated %v", len(p.Argv), p.ArgvTruncated)
	}
}

func TestRepeatsBecomeOneEventWithTheirNumber(t *testing.T) {
	b, d, _ := whoWorld(t)
	script := fmt.Sprintf("i=0; while [ $i -lt 500 ]; do [ -e %s/closed/secret ]; i=$((i+1)); done", d)
	cmd := nobody(b.command("/bin/sh", "-c", script))
	begin := time.Now()
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	list := b.under(d + "/closed/secret")
	total := uint64(0)
	for _, r := range list {
		total += r.Event.Count
		if r.Event.First.Before(begin.Add(-time.Second)) || r.Event.Last.Before(r.Event.First) || r.Event.Last.After(time.Now().Add(time.Second)) {
			t.Errorf("from %v to %v", r.Event.First, r.Event.Last)
		}
	}
	if total != 500 || len(list) > 4 {
		t.Errorf("%d events stand for %d attempts, want few and 500", len(list), total)
	}
}

func init() {
	// datagram is refused by a cgroup program, whoever it is.
	payloads["datagram"] = func([]string) int {
		fd := must(unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0))
		_ = unix.Connect(fd, &unix.SockaddrInet4{Port: 99, Addr: [4]byte{192, 0, 2, 1}})
		return 0
	}
}

func TestASetUserIDProgramIsWhoItBecame(t *testing.T) {
	b, d, self := whoWorld(t)
	if err := unix.Chmod(self, 0o4755); err != nil {
		t.Fatal(err)
	}
	pid := b.run(t, self, "datagram", d)
	list := b.records()
	if len(list) != 1 || list[0].Event.Operation != event.NetUDP {
		t.Fatalf("records %+v", list)
	}
	if p := list[0].Event.Process; p.PID != pid || p.UID != 65534 || string(p.Exe) != self {
		t.Errorf("process %+v, want pid %d of user 65534", p, pid) // the real user: who is answerable
	}
}
