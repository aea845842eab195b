package audit

import (
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/event"
)

func TestFormatGivesOneLineOfColumns(t *testing.T) {
	local := time.Local
	time.Local = time.FixedZone("", 3600)
	defer func() { time.Local = local }()

	full := at(0.25)
	full.Count, full.LostSinceLast = 3, 2
	hostile := event.Event{Time: noon, Operation: event.FileWrite, Reason: event.PathReadOnly, Rule: "my policy.yaml:3",
		Object:  event.Object{Path: "/x not-allowed builtin:ok cat[1]\n2026-11-22T12:00:00Z allow"},
		Process: &event.Process{PID: 9, Comm: "a\x1b[2J\"b"}}
	for _, tt := range []struct {
		name  string
		event event.Event
		want  string
	}{
		{"all columns", full, "2026-11-22T13:00:00.250+01:00 deny net.connect evil.example:443 (3) not-allowed " +
			"builtin:default-deny curl[7] (2 lost before this)"},
		{"nothing known", event.Event{Time: noon, Rule: "r"}, "2026-11-22T13:00:00.000+01:00 deny unknown - not-allowed r -"},
		{"text that poses as columns", hostile, "2026-11-22T13:00:00.000+01:00 deny file.write " +
			`"/x not-allowed builtin:ok cat[1]\x0a2026-11-22T12:00:00Z allow" path-read-only "my policy.yaml:3" "a\x1b[2J\"b"[9]`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := Format(tt.event, nil); got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
}

func TestFormatPaintsTheVerdictAlone(t *testing.T) {
	got := Format(at(0), func(v event.Verdict, s string) string { return "<" + s + ">" })
	if !strings.Contains(got, " <deny> net.connect") || strings.Count(got, "<") != 1 {
		t.Errorf("painted as %s", got)
	}
}

func TestFormatObjectNamesWhatWasAimedAt(t *testing.T) {
	for _, tt := range []struct {
		object event.Object
		want   string
	}{
		{event.Object{}, "-"},
		{event.Object{Path: "/a b"}, `"/a b"`},
		{event.Object{Path: `/a"b`}, `"/a\"b"`},
		{event.Object{Host: "h", Addr: "198.18.0.2", Port: 443, Proto: "tcp"}, "h:443"},
		{event.Object{Addr: "10.0.0.1", Port: 53, Proto: "udp"}, "10.0.0.1:53/udp"},
		{event.Object{Addr: "2001:db8::1", Port: 80}, "[2001:db8::1]:80"},
		{event.Object{Addr: "10.0.0.1", Proto: "icmp"}, "10.0.0.1/icmp"},
		{event.Object{Socket: "AF_VSOCK"}, "AF_VSOCK"},
		{event.Object{Syscall: "ptrace"}, "ptrace"},
		{event.Object{Proto: "ip:47"}, "ip:47"},
		{event.Object{Ref: "refs/heads/main", Syscall: "x"}, "refs/heads/main"},
		{event.Object{Host: "a\x1b]0;x\a"}, `a\x1b]0;x\x07`},
	} {
		if got := FormatObject(tt.object); got != tt.want {
			t.Errorf("%+v is shown as %s, want %s", tt.object, got, tt.want)
		}
	}
}
