package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/internal/audit"
	"github.com/sallyport/sallyport/internal/event"
)

// record writes a log of events.
func record(t *testing.T, events ...event.Event) (dir string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "audit")
	w, err := audit.Create(dir, audit.Header{Sandbox: event.Sandbox{ID: "0123456789ab", Name: "build"}})
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range events {
		if err := w.Append(e); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return dir
}

func command(t *testing.T, want int, args ...string) string {
	t.Helper()
	var out, errOut bytes.Buffer
	if got := execute(context.Background(), args, strings.NewReader(""), &out, &errOut); got != want {
		t.Fatalf("%v: status %d, want %d\n%s", args, got, want, errOut.String())
	}
	return out.String()
}

func TestWhatTheLogDeniedIsSuggestedAndThenAllowed(t *testing.T) {
	home := t.TempDir()
	t.Setenv("HOME", home)
	t.Setenv("XDG_CONFIG_HOME", "")
	t.Chdir(t.TempDir())
	deny := func(op event.Operation, o event.Object) event.Event {
		return event.Event{Operation: op, Object: o, Reason: event.NotAllowed, Rule: "builtin:default-deny"}
	}
	dir := record(t,
		deny(event.NetConnect, event.Object{Host: "a.example.com", Port: 443}), deny(event.NetConnect, event.Object{Host: "a.example.com", Port: 443}),
		deny(event.NetConnect, event.Object{Addr: "10.1.2.3", Port: 5432}), deny(event.FileWrite, event.Object{Path: "/opt/out/x"}),
		deny(event.FileRename, event.Object{Path: "/opt/a", To: "/opt/b"}), deny(event.FileRead, event.Object{Path: event.Text(home + "/.ssh/id")}),
		deny(event.UnixConnect, event.Object{Path: "/run/x.sock"}), deny(event.NetUDP, event.Object{Addr: "1.1.1.1", Port: 53}),
		event.Event{Verdict: event.Allow, Operation: event.NetConnect, Object: event.Object{Host: "seen.example.com", Port: 443}})
	got := command(t, 0, "policy", "suggest", "--dir", dir)
	for _, want := range []string{"- a.example.com:443  # 2×", "- 10.1.2.3:5432", "- /opt/out/x", "- /opt/a", "- /opt/b", "- /run/x.sock", "- .",
		"#   file.read " + home + "/.ssh/id: it is a place of secrets", "#   net.udp 1.1.1.1:53: no rule of a policy allows it"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is missing of\n%s", want, got)
		}
	}
	if strings.Contains(got, "seen.example.com") {
		t.Errorf("what was allowed is suggested:\n%s", got)
	}
	name := filepath.Join(t.TempDir(), "more.yaml")
	if err := os.WriteFile(name, []byte(got), 0o600); err != nil {
		t.Fatal(err)
	}
	again := command(t, 0, "policy", "suggest", "--dir", dir, "--policy", name)
	if strings.Contains(again, "\n    - ") || !strings.Contains(again, "place of secrets") {
		t.Errorf("with the suggestion in force there is more:\n%s", again)
	}
	for target, want := range map[string]string{"a.example.com:443": "allow", "a.example.com:80": "deny", "b.example.com:443": "deny", "10.1.2.4:5432": "deny"} {
		if out := command(t, 0, "policy", "explain", "--policy", name, "net.connect", target); !strings.Contains(out, target+": "+want) {
			t.Errorf("%s: %s", target, out)
		}
	}
	if out := command(t, 0, "policy", "suggest", "--dir", dir, "--sandbox", "other"); out != "" {
		t.Errorf("of another sandbox: %s", out)
	}
}

func TestADamagedLogSuggestsNothing(t *testing.T) {
	t.Setenv("HOME", t.TempDir())
	dir := record(t, event.Event{Operation: event.NetConnect, Object: event.Object{Host: "a.example.com", Port: 443}}, event.Event{})
	files, _ := filepath.Glob(dir + "/*.jsonl")
	b, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(files[0], bytes.Replace(b, []byte("a.example"), []byte("b.example"), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	command(t, exitProblem, "policy", "suggest", "--dir", dir)
}

func TestExplainTakesRecordedEvents(t *testing.T) {
	t.Setenv("HOME", t.TempDir())
	dir := record(t, event.Event{Operation: event.NetConnect, Object: event.Object{Addr: "2001:db8::1", Port: 443}, Reason: event.AddressDenied, Rule: "builtin:x"},
		event.Event{Operation: event.SysRefused, Object: event.Object{Syscall: "ptrace"}, Rule: "builtin:seccomp"},
		event.Event{Operation: event.MemoryUse, Object: event.Object{Ref: "limits.memory"}, Reason: event.LimitExceeded, Rule: "p.yaml:3"},
		event.Event{Operation: event.FileWrite, Object: event.Object{Ref: "RLIMIT_FSIZE"}, Reason: event.LimitExceeded, Rule: "builtin:rlimit"})
	events := command(t, 0, "audit", "query", "--dir", dir, "-o", "json")
	var out bytes.Buffer
	if status := execute(context.Background(), []string{"policy", "explain", "-"}, strings.NewReader(events), &out, &out); status != 0 {
		t.Fatalf("%d: %s", status, out.String())
	}
	for _, want := range []string{"net.connect [2001:db8::1]:443: deny", "builtin:address-documentation", "flip    network.allowedDomains: ['[2001:db8::1]:443']",
		"careful it is a documentation address", "sys.refused", "final   no rule of a policy decides it: builtin:seccomp does",
		"mem.use", "final   limits.memory decides it, p.yaml:3: there it can be raised", "file.write", "RLIMIT_FSIZE decides it"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is missing of\n%s", want, out.String())
		}
	}
	one, _, _ := strings.Cut(events, "\n")
	if got := command(t, 0, "policy", "explain", one); !strings.HasPrefix(got, "net.connect [2001:db8::1]:443: deny") {
		t.Errorf("an event as an argument: %s", got)
	}
	if got := command(t, 0, "policy", "suggest", "--dir", dir); strings.Contains(got, "limits") || strings.Contains(got, "allowWrite") {
		t.Errorf("a limit is proposed away: %s", got)
	}
}
