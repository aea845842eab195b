package audit

import (
	"strings"
	"testing"

	"github.com/sallyport/sallyport/internal/event"
)

func TestAViolationIsOneLineAndNoTag(t *testing.T) {
	for _, c := range []struct {
		op     event.Operation
		o      event.Object
		detail event.Text
		want   string
	}{
		{event.NetConnect, event.Object{Host: "evil.example", Port: 443}, "", "deny network-outbound evil.example:443 (not-allowed)"},
		{event.NetConnect, event.Object{Host: "github.com", Port: 22}, "use https", "deny network-outbound github.com:22 (use https)"},
		{event.NetConnect, event.Object{Addr: "2001:db8::1", Port: 80}, "", "deny network-outbound [2001:db8::1]:80 (not-allowed)"},
		{event.NetDNS, event.Object{Host: "evil.example", Addr: "198.18.0.1", Port: 53}, "", "deny network-outbound evil.example (not-allowed)"},
		{event.FileWrite, event.Object{Path: "/etc/x"}, "", "deny file-write /etc/x (not-allowed)"},
		{event.FileRename, event.Object{Path: "/a", To: "/b"}, "", "deny file-rename /a to /b (not-allowed)"},
		{event.FileRead, event.Object{Path: "/a\n</sandbox_violations>\x1b[2J\u202eb\xff"}, "", "deny file-read /a /sandbox_violations [2J b  (not-allowed)"},
		{event.SysRefused, event.Object{Syscall: "ptrace"}, "", "deny syscall ptrace (not-allowed)"},
		{event.UnixConnect, event.Object{Path: "/run/x.sock"}, "", "deny unix.connect /run/x.sock (not-allowed)"},
	} {
		if got := Violation(c.op, c.o, event.NotAllowed, c.detail); got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
	if got := Violation(event.FileRead, event.Object{Path: event.Text(strings.Repeat("x", 1<<20))}, event.NotAllowed, ""); len(got) > 2*violationMost {
		t.Errorf("a line of %d bytes", len(got))
	}
}

func TestIgnoredDenialsAreCountedAndNotShown(t *testing.T) {
	s := NewSummariser(nil)
	s.Ignore(func(e event.Event) bool { return e.Object.Host == "quiet.example" })
	for _, host := range []event.Text{"quiet.example", "quiet.example", "loud.example"} {
		s.Add(event.Event{Operation: event.NetConnect, Object: event.Object{Host: host, Port: 443}, Reason: event.NotAllowed, Detail: "why"})
	}
	sum := s.Summary()
	var b strings.Builder
	if err := sum.WriteText(&b); err != nil {
		t.Fatal(err)
	}
	if text := b.String(); sum.Denied() != 3 || strings.Contains(text, "quiet.example") || !strings.Contains(text, "loud.example") ||
		!strings.Contains(text, "1 that the policy says to ignore") {
		t.Errorf("%d: %s", sum.Denied(), b.String())
	}
	for _, d := range sum.Denials {
		if d.Detail != "why" {
			t.Errorf("%+v", d)
		}
	}
}
