package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/internal/event"
)

// callRefusal is what the record should say of one refused call.
type callRefusal struct {
	attack string // and its result
	op     event.Operation
	object string // socket or system call
	rule   string
}

func (r callRefusal) matches(e event.Event) bool {
	_, errno, _ := strings.Cut(r.attack, ": ")
	return e.Operation == r.op && (e.Object.Socket == r.object || e.Object.Syscall == r.object) &&
		e.Rule == "builtin:seccomp-"+r.rule && e.Errno == errno && e.Layer == event.LayerSeccomp && e.Verdict == event.Deny
}

func callRefusals() []callRefusal {
	list := []callRefusal{
		{"socket 17 3 0: EACCES", event.NetRaw, "AF_PACKET/SOCK_RAW/0", "socket-family"},
		{"socket 2 3 255: EACCES", event.NetRaw, "AF_INET/SOCK_RAW/255", "socket-family"},
		{"socket 40 1 0: EACCES", event.NetSocket, "AF_VSOCK/SOCK_STREAM/0", "socket-family"},
		{"socket 1 2 0: EACCES", event.NetSocket, "AF_UNIX/SOCK_DGRAM/0", "socket-family"},
		{"socket 16 3 12: EACCES", event.NetSocket, "AF_NETLINK/SOCK_RAW/12", "socket-family"},
		{"unshare 0x10000000: EPERM", event.NSCreate, "unshare", "namespaces"},
		{"clone 0x40000000: EPERM", event.NSCreate, "clone", "namespaces"},
		{"setns /proc/self/ns/net: EPERM", event.NSCreate, "setns", "namespaces"},
		{"mount /tmp: EPERM", event.SysRefused, "mount", "mount"},
		{"umount /tmp: EPERM", event.SysRefused, "umount2", "mount"},
		{"chroot /tmp: EPERM", event.SysRefused, "chroot", "mount"},
		{"ptrace 1: EPERM", event.SysRefused, "ptrace", "ptrace"},
		{"io_uring: EPERM", event.SysRefused, "io_uring_setup", "io_uring"},
		{"bpf: EPERM", event.SysRefused, "bpf", "bpf"},
		{"perf: EPERM", event.SysRefused, "perf_event_open", "perf"},
		{"userfaultfd: EPERM", event.SysRefused, "userfaultfd", "userfaultfd"},
		{"findkey x: EPERM", event.SysRefused, "keyctl", "keyring"},
	}
	if runtime.GOARCH == "amd64" {
		list = append(list,
			callRefusal{"x32: ENOSYS", event.SysRefused, "x32:39", "x32"},
			callRefusal{"i386: ENOSYS", event.SysRefused, "i386:20", "foreign-arch"})
	}
	return list
}

func TestRefusedCallsAreRecordedWithWhoMadeThem(t *testing.T) {
	h := newHome(t)
	var want []string
	for _, r := range callRefusals() {
		want = append(want, r.attack)
	}
	r := h.attack(want...)
	for _, w := range callRefusals() {
		found := 0
		for _, e := range r.events {
			if w.matches(e) {
				found++
				checkCaller(t, h, e)
			}
		}
		if found != 1 {
			t.Errorf("%s: %d events, want 1", w.attack, found)
		}
	}
	if _, n := r.denied(); n != uint64(len(want)) {
		t.Errorf("%d denials recorded, want %d:\n%s", n, len(want), describe(r.events))
	}
}

// checkCaller wants to know the process, as the host sees it.
func checkCaller(t *testing.T, h *home, e event.Event) {
	t.Helper()
	p := e.Process
	if p == nil {
		t.Errorf("nobody made %s", e.Detail)
		return
	}
	if string(p.Exe) != h.helperPath() || len(p.Argv) < 2 || string(p.Argv[0]) != h.helperPath() || int(p.UID) != h.uid ||
		!strings.HasPrefix(string(p.Cwd), h.work) || p.PID < 2 || p.ExecID == "" || p.ExeDevIno == "" {
		t.Errorf("%s was made by %+v", e.Detail, p)
	}
}

func TestRefusedCallsKnowTheirAncestors(t *testing.T) {
	h := newHome(t)
	r := h.runWith([]string{"-e", helperEnv + "=attack"}, "sh", "-c", "(bash -c \"'"+h.helperPath()+"' 'socket 40 1 0'; true\"; true)").ok()
	e := r.recorded(event.NetSocket, nil)
	var names []string
	for _, a := range e.Ancestors {
		names = append(names, filepath.Base(string(a.Exe)))
	}
	if got := strings.Join(names, " "); got != "bash dash dash" && got != "bash dash" && got != "bash bash" && got != "bash sh" {
		t.Errorf("ancestors: %s\n%s", got, describe(r.events))
	}
}

func TestCallersOfEveryKindAreNamed(t *testing.T) {
	h := newHome(t)
	r := h.helper("callers").ok()
	// A thread; a child that has gone at once; a program that replaced another.
	if _, n := r.denied(); n != 1+50+1 {
		t.Errorf("%d recorded\n%s", n, r.out)
	}
	processes := map[int]bool{}
	for _, e := range r.events {
		if e.Process == nil {
			t.Errorf("nobody made %s", e.Detail)
			continue
		}
		processes[e.Process.PID] = true
	}
	if len(processes) != 1+50+1 {
		t.Errorf("%d processes", len(processes))
	}
}

// A flood is one event and its count, and does not hold others up.
func TestFloodOfRefusedCallsIsCounted(t *testing.T) {
	h := newHome(t)
	r := h.helper("flood", "4", "5000").ok()
	events, n := r.denied()
	if n != 20000 {
		t.Errorf("%d attempts recorded, want 20000", n)
	}
	if len(events) > 20 {
		t.Errorf("%d events", len(events))
	}
	var worst float64
	if _, err := fmt.Sscanf(r.out, "slowest connect beside it: %f ms", &worst); err != nil || worst > 500 {
		t.Errorf("%q: %v", r.out, err)
	}
	t.Log(strings.TrimSpace(r.out))
}

// Calls that all differ are no way to fill the record, nor is making many
// processes a way to be forgotten.
func TestFloodOfDifferentCallsIsBounded(t *testing.T) {
	h := newHome(t)
	r := h.helper("vary", "20000").ok()
	events, n := r.denied()
	if n != 20000 {
		t.Errorf("%d attempts recorded, want 20000", n)
	}
	if len(events) > 6000 {
		t.Errorf("%d events", len(events))
	}
}

func TestOwnFiltersOfThePayloadTakeNothingAway(t *testing.T) {
	h := newHome(t)
	r := h.helper("ownfilter").ok()
	r.says("second listener: EBUSY\n").says("vsock, notified by its own filter: ENOSYS\n").says("vsock, refused by its own filter: E2BIG\n").
		says("packet: EACCES\n").says("connect: ECONNREFUSED\n")
	r.recorded(event.NetRaw, nil)
}

func TestListenerIsOutOfThePayloadsReach(t *testing.T) {
	h := newHome(t)
	r := h.sh("ls -l /proc/self/fd /proc/*/fd 2>&1; cat /proc/1/environ 2>&1; true").ok()
	if strings.Contains(r.out, "seccomp") {
		t.Errorf("the payload sees the listener:\n%s", r.out)
	}
	if os.Getuid() != 0 {
		t.Skip("only root sees the descriptors of process 1")
	}
	args := []string{"run", "--", "sleep", "78"}
	cmd := h.command(t.Context(), args...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	waitFor(t, "the command", func() bool { return countArgs(below(processes(t), cmd.Process.Pid), "sleep 78") > 0 })
	holders := 0
	for _, fd := range fdsOf(cmd.Process.Pid) {
		if strings.Contains(fd, "seccomp") {
			holders++
		}
	}
	for pid, p := range below(processes(t), cmd.Process.Pid) {
		for _, fd := range fdsOf(pid) {
			if strings.Contains(fd, "seccomp") {
				t.Errorf("%s holds %s", p.args, fd)
			}
		}
	}
	if holders != 1 {
		t.Errorf("the supervisor holds %d listeners", holders)
	}
}

func fdsOf(pid int) []string {
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	entries, _ := os.ReadDir(dir)
	var fds []string
	for _, e := range entries {
		if target, err := os.Readlink(filepath.Join(dir, e.Name())); err == nil {
			fds = append(fds, target)
		}
	}
	return fds
}

func TestSummaryDoesNotSayThatSystemCallsGoUnrecorded(t *testing.T) {
	r := newHome(t).sh("true").ok()
	if strings.Contains(r.err, "system call") && strings.Contains(r.err, "seccomp") {
		t.Error(r.err)
	}
}
