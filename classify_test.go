package sallyport

import (
	"testing"

	"github.com/sallyport/sallyport/internal/event"
	"github.com/sallyport/sallyport/internal/policy"
)

func classifyPolicy(t *testing.T) *policy.Policy {
	t.Helper()
	f, err := policy.Parse(policy.Source{Name: "p.yaml", Path: "/p.yaml", Data: []byte(`filesystem:
  denyRead: [/srv/private]
  allowWrite: [/srv/build]
  denyWrite: [/srv/build/locked]
`)})
	if err != nil {
		t.Fatal(err)
	}
	p, err := policy.New(policy.Env{Home: "/home/u", Cwd: "/srv/build", ConfigDir: "/home/u/.config/sallyport",
		StateDir: "/home/u/.local/state/sallyport", CacheDir: "/home/u/.cache/sallyport", Exe: "/usr/bin/sallyport"}, f)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestEveryKernelDenialSaysWhoseItIs(t *testing.T) {
	p := classifyPolicy(t)
	for _, tt := range []struct {
		name   string
		event  event.Event
		reason event.Reason
		rule   string
	}{
		{"hidden by the policy", event.Event{Operation: event.FileRead, Object: event.Object{Path: "/srv/private/x"}, Errno: "EACCES"},
			event.PathHidden, "p.yaml:2"},
		{"outside the write roots", event.Event{Operation: event.FileCreate, Object: event.Object{Path: "/etc/x"}, Errno: "EROFS"},
			event.PathReadOnly, "builtin:read-only"},
		{"denied inside a write root", event.Event{Operation: event.FileWrite, Object: event.Object{Path: "/srv/build/locked/f"}, Errno: "EROFS"},
			event.RuleDenied, "p.yaml:4"},
		{"a name that moves out of the write roots", event.Event{Operation: event.FileRename, Errno: "EXDEV",
			Object: event.Object{Path: "/srv/build/a", To: "/etc/a"}}, event.PathReadOnly, "builtin:read-only"},
		{"somebody else's file", event.Event{Operation: event.FileRead, Object: event.Object{Path: "/etc/sudoers"}, Errno: "EACCES"},
			event.System, "builtin:system"},
		{"plain permissions in a write root", event.Event{Operation: event.FileWrite, Object: event.Object{Path: "/srv/build/roots"}, Errno: "EACCES"},
			event.System, "builtin:system"},
		{"a path whose beginning is missing", event.Event{Operation: event.FileCreate, Object: event.Object{Path: "(cut)/x"}, Errno: "EROFS"},
			event.System, "builtin:system"},
		{"a directory above a denied path", event.Event{Operation: event.FileRename, Object: event.Object{Path: "/srv/build/a", To: "/srv/build/locked"}, Errno: "EBUSY"},
			event.RuleDenied, "p.yaml:4"},
		{"a directory above a file that is protected by its name", event.Event{Operation: event.FileRename, Object: event.Object{Path: "/srv/build/sub", To: "/srv/build/b"}, Errno: "EBUSY"},
			event.PathProtected, "builtin:held"},
		{"no path at all", event.Event{Operation: event.FileWrite, Object: event.Object{Syscall: "mprotect"}, Errno: "EACCES"},
			event.System, "builtin:system"},
		{"a datagram", event.Event{Operation: event.NetUDP, Reason: event.System, Errno: "EPERM"}, event.ProtocolDenied, "builtin:tcp-and-dns-only"},
		{"a low port", event.Event{Operation: event.NetBind, Errno: "EACCES"}, event.System, "builtin:system"},
		{"a program that enforces", event.Event{Operation: event.NetUDP, Reason: event.ProtocolDenied, Rule: "builtin:no-ip-options"},
			event.ProtocolDenied, "builtin:no-ip-options"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := tt.event
			classify(p, &e)
			if e.Reason != tt.reason || e.Rule != tt.rule {
				t.Errorf("%s, %s; want %s, %s", e.Reason, e.Rule, tt.reason, tt.rule)
			}
		})
	}
}
