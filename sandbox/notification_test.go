package sandbox

import (
	"encoding/binary"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/event"
	"github.com/sallyport/sallyport/internal/plan"
)

func notificationBytes(n notification) []byte {
	b := make([]byte, notificationSize)
	binary.NativeEndian.PutUint64(b, n.id)
	binary.NativeEndian.PutUint32(b[8:], uint32(n.tid))
	binary.NativeEndian.PutUint32(b[16:], n.nr)
	binary.NativeEndian.PutUint32(b[20:], n.arch)
	for i, a := range n.args {
		binary.NativeEndian.PutUint64(b[32+8*i:], a)
	}
	return b
}

func TestNotificationIsReadWhateverFollowsIt(t *testing.T) {
	want := notification{1 << 60, 4711, 41, 0xc000003e, [6]uint64{1, 2, 3, 4, 5, ^uint64(0)}}
	for _, more := range []int{0, 1, 64} {
		got, err := parseNotification(append(notificationBytes(want), make([]byte, more)...))
		if err != nil || got != want {
			t.Errorf("%d bytes more: %+v, %v", more, got, err)
		}
	}
	if _, err := parseNotification(make([]byte, notificationSize-1)); err == nil {
		t.Error("a notification that is too short")
	}
}

// The last word is the flags: 1 would let the call go on.
func TestResponseNeverContinues(t *testing.T) {
	b := []byte(strings.Repeat("\xff", responseSize))
	putResponse(b, 7, 13)
	if binary.NativeEndian.Uint64(b) != 7 || binary.NativeEndian.Uint64(b[8:]) != 0 ||
		int32(binary.NativeEndian.Uint32(b[16:])) != -13 || binary.NativeEndian.Uint32(b[20:]) != 0 {
		t.Errorf("% x", b)
	}
}

// refusalOf gives the event of a call, if it is refused.
func refusalOf(n notification) (event.Event, bool) {
	r, refused := plan.DefaultSeccomp().Decide(plan.ArchAMD64, n.arch, n.nr, n.args)
	return refusalEvent(n, r, time.Unix(1, 0)), refused
}

func TestRefusalsSayWhatWasAttempted(t *testing.T) {
	amd64 := plan.ArchAMD64.Audit()
	const junk = 0xdead << 32
	for name, test := range map[string]struct {
		arch uint32
		call string
		nr   uint32
		args [6]uint64
		want string // operation, object, reason, errno, rule, detail
	}{
		"packet socket":       {amd64, "socket", 0, [6]uint64{17 | junk, 3 | 0x80000, 0x300}, "net.raw AF_PACKET/SOCK_RAW/768 socket-refused EACCES builtin:seccomp-socket-family socket(AF_PACKET, SOCK_RAW, 768)"},
		"old packet socket":   {amd64, "socket", 0, [6]uint64{2, 10, 0x300}, "net.raw AF_INET/SOCK_PACKET/other socket-refused EACCES builtin:seccomp-socket-family socket(AF_INET, SOCK_PACKET, 768)"},
		"netlink":             {amd64, "socket", 0, [6]uint64{16, 3, 12}, "net.socket AF_NETLINK/SOCK_RAW/12 socket-refused EACCES builtin:seccomp-socket-family socket(AF_NETLINK, SOCK_RAW, 12)"},
		"vsock":               {amd64, "socket", 0, [6]uint64{40, 1, 0}, "net.socket AF_VSOCK/SOCK_STREAM/0 socket-refused EACCES builtin:seccomp-socket-family socket(AF_VSOCK, SOCK_STREAM, 0)"},
		"unix datagram":       {amd64, "socket", 0, [6]uint64{1, 2, 0}, "net.socket AF_UNIX/SOCK_DGRAM/0 socket-refused EACCES builtin:seccomp-socket-family socket(AF_UNIX, SOCK_DGRAM, 0)"},
		"a family unheard of": {amd64, "socket", 0, [6]uint64{4000, 14, 1 << 31}, "net.socket AF_OTHER/14/other socket-refused EACCES builtin:seccomp-socket-family socket(AF_OTHER, 14, 0x80000000)"},
		"datagram pair":       {amd64, "socketpair", 0, [6]uint64{1, 2, 0, 0x7ffe0000}, "net.socket AF_UNIX/SOCK_DGRAM/0 socket-refused EACCES builtin:seccomp-socketpair-family socketpair(AF_UNIX, SOCK_DGRAM, 0, 0x7ffe0000)"},
		"unshare":             {amd64, "unshare", 0, [6]uint64{0x10000000 | 0x40000000}, "ns.create unshare syscall-refused EPERM builtin:seccomp-namespaces unshare(CLONE_NEWUSER|CLONE_NEWNET)"},
		"clone":               {amd64, "clone", 0, [6]uint64{0x20000000 | 17, 0, 0, 0, 0}, "ns.create clone syscall-refused EPERM builtin:seccomp-namespaces clone(CLONE_NEWPID|0x11, 0, 0, 0, 0)"},
		"setns":               {amd64, "setns", 0, [6]uint64{3, 0x20000}, "ns.create setns syscall-refused EPERM builtin:seccomp-namespaces setns(3, CLONE_NEWNS)"},
		"ptrace":              {amd64, "ptrace", 0, [6]uint64{16, 4711, 0, 0, 99}, "sys.refused ptrace syscall-refused EPERM builtin:seccomp-ptrace ptrace(16, 0x1267, 0, 0)"},
		"type in":             {amd64, "ioctl", 0, [6]uint64{0, 0x5412, 0x7ffe0000}, "sys.refused ioctl syscall-refused EPERM builtin:seccomp-terminal ioctl(0, TIOCSTI, 0x7ffe0000)"},
		"lease":               {amd64, "fcntl", 0, [6]uint64{4, 1024, 1}, "sys.refused fcntl syscall-refused EPERM builtin:seccomp-lease fcntl(4, F_SETLEASE, 1)"},
		"no argument":         {amd64, "vhangup", 0, [6]uint64{9}, "sys.refused vhangup syscall-refused EPERM builtin:seccomp-machine vhangup()"},
		"i386":                {0x40000003, "", 20, [6]uint64{}, "sys.refused i386:20 syscall-refused ENOSYS builtin:seccomp-foreign-arch i386:20()"},
		"a number of nobody":  {0x40000003, "", 99999, [6]uint64{}, "sys.refused i386:other syscall-refused ENOSYS builtin:seccomp-foreign-arch i386:other()"},
		"x32":                 {amd64, "", plan.X32Bit | 39, [6]uint64{}, "sys.refused x32:39 syscall-refused ENOSYS builtin:seccomp-x32 x32:39()"},
		"another machine":     {0xc00000f3, "", 1, [6]uint64{}, "sys.refused arch-0xc00000f3:1 syscall-refused ENOSYS builtin:seccomp-foreign-arch arch-0xc00000f3:1()"},
	} {
		if test.call != "" {
			test.nr, _ = plan.ArchAMD64.Syscall(test.call)
		}
		e, refused := refusalOf(notification{arch: test.arch, nr: test.nr, args: test.args})
		object := e.Object.Socket
		if object == "" {
			object = e.Object.Syscall
		}
		got := strings.Join([]string{e.Operation.String(), object, e.Reason.String(), e.Errno, e.Rule, string(e.Detail)}, " ")
		if got != test.want || !refused || e.Verdict != event.Deny || e.Layer != event.LayerSeccomp || e.Count != 1 {
			t.Errorf("%s:\n got %s\nwant %s", name, got, test.want)
		}
	}
}

// A payload must not fill the record with events that all differ.
func TestRefusalsAreOfFewKinds(t *testing.T) {
	kinds := map[event.Object]bool{}
	nr, _ := plan.ArchAMD64.Syscall("socket")
	for i := range uint64(1 << 16) {
		e, _ := refusalOf(notification{arch: plan.ArchAMD64.Audit(), nr: nr, args: [6]uint64{i * 7, i * 13, i * 2654435761}})
		kinds[e.Object] = true
	}
	for i := range uint32(1 << 16) {
		e, _ := refusalOf(notification{arch: 0x40000003, nr: i * 65537})
		kinds[e.Object] = true
	}
	if len(kinds) > 5000 {
		t.Errorf("%d different objects", len(kinds))
	}
}

func TestEveryRefusedCallHasItsArguments(t *testing.T) {
	for _, r := range plan.DefaultSeccomp().Rules {
		for _, call := range r.Calls {
			text := callText(notification{}, plan.Refusal{Call: call})
			if n := strings.Count(text, ", "); call != "vhangup" && n > 5 || !strings.HasPrefix(text, call+"(") {
				t.Error(text)
			}
		}
	}
}

func FuzzNotification(f *testing.F) {
	f.Add(notificationBytes(notification{1, 2, 41, 0xc000003e, [6]uint64{17, 3, 768}}))
	f.Add(notificationBytes(notification{1, 2, 20, 0x40000003, [6]uint64{}}))
	f.Add(notificationBytes(notification{1, -1, plan.X32Bit | 59, 0xc000003e, [6]uint64{1 << 63}}))
	f.Add([]byte("short"))
	f.Fuzz(func(t *testing.T, b []byte) {
		n, err := parseNotification(b)
		if err != nil {
			return
		}
		e, refused := refusalOf(n)
		if !refused {
			return
		}
		if e.Object == (event.Object{}) || e.Rule == "builtin:seccomp-" || !e.Verdict.Denied() {
			t.Errorf("%+v", e)
		}
		if _, err := json.Marshal(e); err != nil {
			t.Error(err)
		}
	})
}
