package seatbelt

import (
	"errors"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/sallyport/sallyport/internal/event"
	"github.com/sallyport/sallyport/internal/policy"
)

func TestViolationsBecomeEventsOfTheSameKindsAsOnLinux(t *testing.T) {
	path := func(p string) event.Object { return event.Object{Path: event.Text(p)} }
	for _, tt := range []struct {
		op, target string
		want       event.Operation
		object     event.Object
		reason     event.Reason
	}{
		{"file-read-data", "/x", event.FileRead, path("/x"), event.PathHidden},
		{"file-read*", "/x", event.FileRead, path("/x"), event.PathHidden},
		{"file-read-metadata", "/x", event.FileRead, path("/x"), event.PathHidden},
		{"file-write*", "/x", event.FileWrite, path("/x"), event.PathReadOnly},
		{"file-write-data", "/x y", event.FileWrite, path("/x y"), event.PathReadOnly},
		{"file-write-create", "/x", event.FileCreate, path("/x"), event.PathReadOnly},
		{"file-write-unlink", "/x", event.FileDelete, path("/x"), event.PathReadOnly},
		{"file-write-mode", "/x", event.FileMeta, path("/x"), event.PathReadOnly},
		{"forbidden-link-priv<file-read*>", "/a  /b", event.FileLink, path("/a  /b"), event.PathReadOnly},
		{"process-exec*", "/bin/ls", event.FileExec, path("/bin/ls"), event.PathHidden},
		{"forbidden-exec-sugid", "", event.FileExec, path(""), event.PathHidden},
		{"network-outbound", "remote:*:443", event.NetConnect, event.Object{Port: 443, Socket: "remote:*:443"}, event.NotAllowed},
		{"network-outbound", "remote:::1:443", event.NetConnect, event.Object{Port: 443, Socket: "remote:::1:443"}, event.NotAllowed},
		{"network-outbound", "remote:*:*", event.NetConnect, event.Object{Socket: "remote:*:*"}, event.NotAllowed},
		{"network-outbound", "/private/var/run/syslog", event.UnixConnect, path("/private/var/run/syslog"), event.SocketRefused},
		{"network-outbound", "", event.NetConnect, event.Object{}, event.NotAllowed},
		{"network-bind", "local:*:8080", event.NetBind, event.Object{Port: 8080, Socket: "local:*:8080"}, event.NotAllowed},
		{"network-bind", "/tmp/s", event.NetBind, path("/tmp/s"), event.NotAllowed},
		{"network-inbound", "local:*:8080", event.NetBind, event.Object{Port: 8080, Socket: "local:*:8080"}, event.NotAllowed},
		{"system-socket", "AF_UNIX", event.NetSocket, event.Object{Socket: "AF_UNIX"}, event.SocketRefused},
		{"mach-lookup", "com.apple.x (xpc)", event.SysRefused, event.Object{Syscall: "mach-lookup", Ref: "com.apple.x (xpc)"}, event.SyscallRefused},
		{"sysctl-read", "kern.bootargs", event.SysRefused, event.Object{Syscall: "sysctl-read", Ref: "kern.bootargs"}, event.SyscallRefused},
		{"file-ioctl", `path:/dev/tty ioctl-command:(_IO "t" 22)`, event.SysRefused, event.Object{Syscall: "file-ioctl", Path: "/dev/tty"}, event.SyscallRefused},
		{"an-operation-of-tomorrow", "x", event.SysRefused, event.Object{Syscall: "an-operation-of-tomorrow", Ref: "x"}, event.SyscallRefused},
	} {
		at := time.Unix(7, 0)
		e := Violation{Count: 3, Name: "a\x1b", PID: 9, Errno: 1, Op: tt.op, Target: tt.target}.Event(Record{Time: at, Reporter: Kernel})
		if e.Operation != tt.want || e.Object != tt.object || e.Reason != tt.reason {
			t.Errorf("%s %s: %v %+v %v, want %v %+v %v", tt.op, tt.target, e.Operation, e.Object, e.Reason, tt.want, tt.object, tt.reason)
		}
		if e.Verdict != event.Deny || e.Layer != event.LayerSeatbelt || e.Sandbox.Tier != event.TierSeatbelt || e.Rule != "builtin:seatbelt" ||
			e.Count != 3 || e.Errno != "EPERM" || !e.First.Equal(at) || !e.Last.Equal(at) || e.Process.PID != 9 || e.Process.Comm != "a\x1b" {
			t.Errorf("%s: %+v", tt.op, e)
		}
	}
}

func TestAnEventSaysWhatTheLogDoesNot(t *testing.T) {
	for target, want := range map[string]bool{"remote:*:443": true, "/private/var/run/syslog": false, "remote:::1:443": false} {
		e := Violation{Op: "network-outbound", Target: target}.Event(Record{Reporter: Kernel})
		if got := strings.Contains(string(e.Detail), "does not name the address"); got != want {
			t.Errorf("%s: %s", target, e.Detail)
		}
	}
	e := Violation{Op: "file-read-data", Target: "/x‹…>", Cut: true}.Event(Record{Reporter: Kernel})
	if !strings.Contains(string(e.Detail), "the log cut the record") {
		t.Errorf("cut: %s", e.Detail)
	}
}

func TestErrorsThatNobodyKnowsKeepTheirNumber(t *testing.T) {
	for n, want := range map[int]string{1: "EPERM", 13: "EACCES", 99: "errno 99"} {
		if got := errnoName(n); got != want {
			t.Errorf("%d: %s", n, got)
		}
	}
}

func TestNoiseIsWhatProgramsTryWithoutBeingAsked(t *testing.T) {
	for target, want := range map[string]bool{"path:/dev/dtracehelper": true, "path:/dev/tty ioctl-command:(_IO \"t\" 22)": true, "path:/dev/rdisk0": false} {
		if got := (Violation{Op: "file-ioctl", Target: target}).Noise(); got != want {
			t.Errorf("%s: %v", target, got)
		}
	}
	for target, want := range map[string]bool{"com.apple.diagnosticd": true, "com.apple.diagnosticd (xpc)": true, "com.apple.trustd.agent": false} {
		if got := (Violation{Op: "mach-lookup", Target: target}).Noise(); got != want {
			t.Errorf("%s: %v", target, got)
		}
	}
}

func macPolicy(t testing.TB, yaml string) *policy.Policy {
	t.Helper()
	p, err := tryPolicy(yaml)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func tryPolicy(yaml string) (*policy.Policy, error) {
	f, err := policy.Parse(policy.Source{Name: "policy.yaml", Data: []byte(yaml)})
	if err != nil {
		return nil, err
	}
	return policy.New(macEnv, f)
}

var macEnv = policy.Env{Home: "/Users/u", Cwd: "/Users/u/proj", ConfigDir: "/Users/u/.config/sallyport",
	StateDir: "/Users/u/.local/state/sallyport", CacheDir: "/Users/u/.cache/sallyport", Exe: "/usr/local/bin/sallyport"}

func TestExplainNamesTheRuleOfThePolicy(t *testing.T) {
	p := macPolicy(t, "filesystem:\n  allowWrite: [/Users/u/proj]\n  denyRead:\n    - /Users/u/.ssh\n    - /etc/passwd\n  denyWrite:\n    - /Users/u/proj/dist\n")
	for _, tt := range []struct {
		op     event.Operation
		path   event.Text
		reason event.Reason
		rule   string
	}{
		{event.FileRead, "/Users/u/.ssh/id", event.PathHidden, "policy.yaml:4"},
		{event.FileRead, "/private/etc/passwd", event.PathHidden, "policy.yaml:5"},
		{event.FileRead, "/opt/x", event.NotAllowed, "builtin:seatbelt"}, // nothing of ours
		{event.FileWrite, "/opt/x", event.PathReadOnly, "builtin:read-only"},
		{event.FileWrite, "/private/tmp/x", event.PathReadOnly, "builtin:read-only"},
		{event.FileWrite, "/dev/disk0", event.PathReadOnly, "builtin:read-only"},
		{event.FileWrite, "/Users/u/proj/dist/a", event.RuleDenied, "policy.yaml:7"},
		{event.FileCreate, "/Users/u/proj/.bashrc", event.PathProtected, "builtin:protected:.bashrc"},
		{event.FileCreate, "/Users/u/proj/.git", event.PathProtected, "builtin:seatbelt-move"},
		{event.FileRead, "…/not a path", event.NotAllowed, "builtin:seatbelt"},
		{event.NetConnect, "", event.NotAllowed, "builtin:seatbelt"},
	} {
		e := event.Event{Operation: tt.op, Object: event.Object{Path: tt.path}, Rule: "builtin:seatbelt"}
		if tt.op == event.FileWrite {
			e.Reason = event.PathReadOnly
		}
		Explain(&e, p)
		if e.Reason != tt.reason || e.Rule != tt.rule {
			t.Errorf("%v %s: %v %s, want %v %s", tt.op, tt.path, e.Reason, e.Rule, tt.reason, tt.rule)
		}
	}
}

func TestImportStopsAtTheFirstErrorOfEitherSide(t *testing.T) {
	full := errors.New("full")
	line := logEntry(0, kernelPath, report) + "\n"
	if _, err := Import(strings.NewReader(line+line), "", func(event.Event) error { return full }); !errors.Is(err, full) {
		t.Errorf("got %v", err)
	}
	n := 0
	sum, err := Import(iotest.TimeoutReader(iotest.OneByteReader(strings.NewReader(line))), "", func(event.Event) error { n++; return nil })
	if err == nil || n != 0 || sum.Attempts != 0 {
		t.Errorf("%v, %d events, %+v", err, n, sum)
	}
}

func TestImportCountsLossApart(t *testing.T) {
	sum, err := Import(strings.NewReader(`{"eventType":"lossEvent","lossCount":5}`), "", func(event.Event) error { return nil })
	if err != nil || sum.Lost != 5 || sum.Outcomes != (Counts{}) {
		t.Errorf("%v %+v", err, sum)
	}
}
