package loader

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/internal/event"
	"github.com/sallyport/sallyport/testvm"
)

// needLSM skips where the kernel takes no LSM programs; inside a test VM that is a
// failure, unless the machine was booted so.
func needLSM(t *testing.T) {
	t.Helper()
	needRoot(t)
	testvm.Require(t, testvm.BPFLSM, testvm.BPFLSMUserns)
}

func TestTheSelfTestHitsEveryLSMProgram(t *testing.T) {
	needLSM(t)
	list, err := SelfTest(t.Context(), parentGroup(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range list {
		if f.State != Works && f.Tier != event.TierNone {
			t.Errorf("%s, which %s: %v: %+v", f.Program, f.Purpose, f.State, f.Err)
		}
	}
	if tier, err := Tier(list); tier != event.TierLSM || err != nil {
		t.Errorf("tier %s, %v", tier, err)
	}
}

func TestWithoutLSMProgramsTheRestIsWholeAndTheReasonIsSaid(t *testing.T) {
	list, err := SelfTest(t.Context(), parentGroup(t))
	if err != nil {
		t.Fatal(err)
	}
	tier, why := Tier(list)
	if tier == event.TierLSM {
		t.Skip("this kernel enforces what LSM programs say")
	}
	if tier != event.TierTrace || why == nil {
		t.Errorf("tier %s, %v", tier, why)
	}
	for _, f := range list {
		if f.Tier == event.TierLSM && (f.State == Works || f.State == Broken || f.Err == nil || (f.State == Unsupported) != errors.Is(f.Err, ErrMissing)) {
			t.Errorf("%s: %v: %v", f.Program, f.State, f.Err)
		}
	}
	t.Logf("%s: %v", tier, why)
}

// outsideWorld is what a payload is given, and sockets that it should not reach.
func outsideWorld(t *testing.T, d string) []*os.File {
	t.Helper()
	file := func(fd int) *os.File {
		f := os.NewFile(uintptr(fd), "outside")
		t.Cleanup(func() { f.Close() })
		return f
	}
	for _, name := range []string{d + "/", "@" + d + "/"} {
		for kind, leaf := range map[int]string{unix.SOCK_STREAM: "stream", unix.SOCK_DGRAM: "datagram"} {
			fd := must(unix.Socket(unix.AF_UNIX, kind, 0))
			file(fd)
			must(0, unix.Bind(fd, &unix.SockaddrUnix{Name: name + leaf}))
			if kind == unix.SOCK_STREAM {
				must(0, unix.Listen(fd, 8))
			}
		}
	}
	tcp, udp := must(unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)), must(unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0))
	connected := must(unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0))
	must(0, unix.Connect(connected, ownPort53))
	control := must(unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET, 0))
	pipe := make([]int, 2)
	must(0, unix.Pipe(pipe))
	sent := map[string]int{"socket": tcp, "file": must(unix.Open(d, unix.O_RDONLY, 0)), "pipe": pipe[0], "memory": must(unix.MemfdCreate("m", 0))}
	for _, kind := range sentKinds {
		must(0, unix.Sendmsg(control[1], []byte{0}, unix.UnixRights(sent[kind]), nil, 0))
	}
	for _, fd := range []int{sent["file"], pipe[0], pipe[1], sent["memory"], control[1]} {
		file(fd)
	}
	return []*os.File{file(tcp), file(udp), file(connected), file(control[0])}
}

// came runs a payload with mounts of its own, and gives what came of each attempt.
func came(t *testing.T, b *testBox, given []*os.File, name string, args ...string) (errnos map[string]unix.Errno, pid int) {
	t.Helper()
	self := copySelf(t, scratchDir(t), "lsm-program")
	cmd := b.command("unshare", append([]string{"--mount", self}, args...)...)
	cmd.Env = append(os.Environ(), "LOADER_PAYLOAD="+name)
	cmd.ExtraFiles = given
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	if err := json.Unmarshal(out, &errnos); err != nil {
		t.Fatalf("%q: %v", out, err)
	}
	return errnos, cmd.Process.Pid
}

func TestWhatComesFromOutsideIsRefusedAndRecordedOnce(t *testing.T) {
	needLSM(t)
	d := scratchDir(t)
	rules := everything
	rules.UnixDirs = []string{d} // by its name it may be reached: whose it is decides
	b := sharedWorld(t).add(rules)
	errnos, pid := came(t, b, outsideWorld(t, d), "lsm-refused", d)
	wants := map[string]string{ // what each attempt is recorded as
		"packet": "socket_create net.raw", "vsock": "socket_create net.socket", "alg": "socket_create net.socket",
		"netfilter": "socket_create net.socket", "listen": "socket_listen net.bind", "connect": "socket_connect net.connect",
		"fast open": "socket_sendmsg net.connect", "connect datagrams": "socket_connect net.udp", "send": "socket_sendmsg net.udp",
		"write": "socket_sendmsg net.udp", "stream by path": "unix_stream_connect unix.connect " + d + "/stream",
		"stream by abstract name": "unix_stream_connect unix.connect @" + d + "/stream",
		"datagram by path":        "unix_may_send unix.connect " + d + "/datagram", "datagram by abstract name": "unix_may_send unix.connect @" + d + "/datagram",
		"user namespace": "userns_create ns.create", "memory": "ptrace_access_check sys.refused",
		"process_vm_readv": "ptrace_access_check sys.refused", "receive socket": "file_receive net.socket",
		"receive file": "file_receive file.read (unreachable)" + d,
		"ring socket":  "socket_create net.raw", "ring connect": "socket_connect net.connect",
		"after the ring": "fchmodat file.meta /proc/self/status",
	}
	allowed := []string{"receive pipe", "receive memory"}
	want, got := map[string]int{}, map[string]int{}
	for name, errno := range errnos {
		switch refused := errno == unix.EPERM || errno == unix.EACCES; {
		case slices.Contains(allowed, name):
			if errno != 0 {
				t.Errorf("%s: %v", name, errno)
			}
		case !refused || wants[name] == "":
			t.Errorf("%s: %v, should be refused", name, errno)
		default:
			want[wants[name]]++
		}
	}
	if len(errnos) < 19 {
		t.Errorf("only %d attempts", len(errnos))
	}
	if _, ok := errnos["ring connect"]; !ok {
		t.Log("io_uring is not to be had here")
	}
	for _, r := range b.records() {
		e := r.Event
		if e.Process == nil || e.Process.PID != pid || string(e.Process.Comm) != "lsm-program" || len(e.Process.Argv) != 2 {
			if e.Layer == event.LayerLSM {
				t.Errorf("%s by %+v", r.Call, e.Process)
			}
			continue // the shell's, and what Go tries
		}
		if e.Layer == event.LayerLSM && (e.Rule == "" || e.Errno != "EPERM") {
			t.Errorf("%s: rule %q, %s", r.Call, e.Rule, e.Errno)
		}
		got[strings.TrimSpace(fmt.Sprint(r.Call, " ", e.Operation, " ", e.Object.Path))] += int(e.Count)
	}
	diff(t, want, got)
}

func TestASandboxsOwnSocketsAndProcessesAreItsOwn(t *testing.T) {
	needLSM(t)
	d, own := scratchDir(t), scratchDir(t)
	rules := everything
	rules.UnixSockets, rules.UnixDirs = []string{d + "/stream"}, []string{own}
	b := sharedWorld(t).add(rules)
	outsideWorld(t, d)
	pair := must(unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0))
	given := os.NewFile(uintptr(pair[0]), "given")
	defer given.Close()
	defer unix.Close(pair[1])
	errnos, pid := came(t, b, []*os.File{given}, "lsm-own", own, d+"/stream")
	for name, errno := range errnos {
		if errno != 0 {
			t.Errorf("%s: %v", name, errno)
		}
	}
	if len(errnos) != 10 {
		t.Errorf("%d attempts", len(errnos))
	}
	for _, r := range b.records() {
		if p := r.Event.Process; r.Event.Layer == event.LayerLSM || p != nil && p.PID == pid && string(p.Comm) == "lsm-program" {
			t.Errorf("recorded: %s %+v", r.Call, r.Event)
		}
	}
}

func TestLSMProgramsLeaveTheRestOfTheMachineAlone(t *testing.T) {
	needLSM(t)
	w := sharedWorld(t)
	early := w.addOnly(everything) // what sets it up is not its command
	for name, do := range map[string]func() error{
		"raw":            func() error { return open(unix.AF_PACKET, unix.SOCK_RAW, 0) },
		"user namespace": newUser,
		"memory":         ownChild,
		"handed over":    handOver,
	} {
		if err := do(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := early.command("unshare", "--user", "true").Run(); err != nil {
		t.Errorf("before its start: %v", err)
	}
	nested := everything
	nested.Nested = true
	if err := w.add(nested).command("unshare", "--user", "true").Run(); err != nil {
		t.Errorf("where they may be: %v", err)
	}
}

func TestLSMProgramsOutliveTheirLoader(t *testing.T) {
	needLSM(t)
	o := Options{Pin: pinDir(t), Cgroup: parentGroup(t)}
	first := newWorld(t, o)
	b := first.add(everything)
	refused := func() bool {
		cmd := b.command("unshare", "--user", "true")
		cmd.Stderr = nil
		return cmd.Run() != nil
	}
	first.close()
	if !refused() {
		t.Error("nothing is refused while nobody reads")
	}
	second := newWorld(t, o)
	b.w = second
	if err := second.l.Has("lsm_userns"); err != nil {
		t.Errorf("after adopting: %v", err)
	}
	if !refused() {
		t.Error("nothing is refused after adopting")
	}
	told := uint64(0)
	for _, r := range b.records() {
		if r.Event.Operation == event.NSCreate && r.Event.Layer == event.LayerLSM {
			told += r.Event.Count
		}
	}
	if told != 2 {
		t.Errorf("%d told of 2", told)
	}
	second.stop()
	if err := second.l.Close(); err != nil {
		t.Error(err)
	}
	changeAbout(t, o.Pin, func(a *about) { a.Build[0]++ })
	third := newWorld(t, o)
	if !refused() {
		t.Error("nothing is refused after a new build took the place of the old one")
	}
	third.stop()
	if err := third.l.Detach(); err != nil {
		t.Error(err)
	}
	if refused() {
		t.Error("still refused after Detach")
	}
}
