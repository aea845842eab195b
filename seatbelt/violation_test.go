package seatbelt

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/event"
)

// found is what a record of testdata/violations.txt says, read by a person.
type found struct {
	count  uint64
	name   string
	pid    int
	errno  int
	op     string
	target string
	msg    string
}

// records has every record of testdata/violations.txt: what it says, or, where
// it is no whole report of a profile's, why it is refused.
var records = map[string]struct {
	want found
	drop Outcome
}{
	"A01": {want: found{1, "sandbox-exec", 41398, 1, "process-exec*", "/usr/bin/touch", ""}},
	"A02": {want: found{1, "sandbox-exec", 41398, 1, "file-read-metadata", "/usr/bin/touch", ""}},
	"A03": {want: found{1, "sandbox-exec", 41398, 1, "file-read-metadata", "/var", ""}},
	"A04": {want: found{5, "sandbox-exec", 41398, 1, "file-read-metadata", "/var", ""}},
	"A05": {want: found{1, "touch", 41575, 1, "file-read-metadata", "/usr/bin/touch", ""}},
	"A06": {want: found{1, "touch", 41575, 1, "file-read-data", "/usr/bin/touch", ""}},
	"A07": {want: found{1, "touch", 41575, 1, "file-read-data", "/usr/bin", ""}},
	"A08": {want: found{1, "touch", 41575, 1, "file-read-metadata", "/usr/lib/dyld", ""}},
	"A09": {want: found{1, "touch", 41575, 1, "sysctl-read", "kern.bootargs", ""}},
	"A10": {want: found{1, "touch", 41575, 1, "file-read-data", "/", ""}},
	"A11": {want: found{2, "MTLCompilerServi", 187, 1, "file-read-metadata", "/private", ""}},
	"A12": {drop: Platform},
	"A14": {want: found{1, "cat", 96730, 1, "file-read-data", "…/forbidden/read.txt", ""}},
	"A15": {want: found{1, "bash", 96731, 1, "file-write-create", "…/forbidden/write.txt", ""}},
	"A16": {want: found{1, "cat", 22304, 1, "file-read-data", "/private/tmp/a b/.env", ""}},
	"A17": {want: found{1, "touch", 49530, 1, "file-write*", "/private/var/folders/36/T/.tmpunEsrf/denied.txt", ""}},
	"A18": {want: found{1, "nc", 49511, 1, "network-outbound", "remote:*:9", "ahma-op-7"}},
	"A19": {want: found{1, "nc", 86248, 1, "network-outbound", "/private/var/run/syslog", ""}},
	"A20": {drop: Unrelated}, // the head is missing
	"A21": {drop: Broken},    // the pid is redacted
	"A22": {drop: Broken},
	"A23": {drop: Broken},
	"A24": {drop: Broken},
	"A25": {want: found{1, "cat", 73188, 1, "file-read-data", "/Users/me/t/canary", ""}},
	"A26": {want: found{1, "cat", 73208, 1, "file-read-data", "/Users/me/t/canary", ""}},
	"A27": {drop: Broken}, // the pid is left out
	"A29": {want: found{1, "gh", 64174, 1, "mach-lookup", "com.apple.trustd.agent", ""}},
	"A30": {want: found{1, "mpv", 96060, 1, "mach-lookup", "com.apple.CoreServices.coreservicesd", ""}},
	"A31": {want: found{1, "mpv", 96654, 1, "mach-lookup", "com.apple.logd", ""}},
	"A32": {want: found{1, "mpv", 96654, 1, "mach-lookup", "com.apple.system.notification_center", ""}},
	"A33": {want: found{1, "mpv", 96654, 1, "mach-lookup", "com.apple.pasteboard.1", ""}},
	"A34": {want: found{1, "mpv", 96654, 1, "mach-lookup", "com.apple.distributed_notifications@Uv3", ""}},
	"A35": {want: found{1, "mpv", 96654, 1, "mach-lookup", "com.apple.tccd.system", ""}},
	"A36": {want: found{1, "mpv", 96654, 1, "mach-lookup", "com.apple.windowserver.active", ""}},
	"A37": {want: found{1, "mpv", 96921, 1, "mach-lookup", "com.apple.coreservices.launchservicesd", ""}},
	"A38": {want: found{1, "mpv", 96921, 1, "mach-lookup", "com.apple.CARenderServer", ""}},
	"A40": {want: found{1, "go", 4210, 1, "file-read-metadata", "/opt", ""}},
	"A41": {want: found{1, "go", 4211, 1, "file-read-data", "/Users/me/go/pkg/mod/github.com/x@v1.2.3/a.go", ""}},
	"A42": {want: found{1, "sh", 4212, 1, "file-write-create", "/Users/me/notes/out.txt", ""}},
	"A43": {want: found{1, "sh", 4212, 1, "file-read-data", "/Volumes/nova-j1/work/inside.txt", ""}},
	"A44": {want: found{1, "MobileJarvisNative", 9964, 1, "sysctl-read", "kern.bootargs", ""}},
	"A45": {want: found{1, "netconvert", 21722, 1, "sysctl-read", "kern.bootargs", ""}},
	"A50": {want: found{1, "Runner", 52662, 1, "iokit-get-properties", "iokit-class:AGXAcceleratorG14P property:CFBundleIdentifier", ""}},
	"A51": {drop: Broken}, // the pid is redacted
	"A52": {drop: Platform},
	"A53": {drop: Platform},
	"A54": {want: found{1, "mobileassetd", 45396, 1, "file-write-create", "/private/var/run/bootSessionMA.txt", ""}},
	"A57": {drop: Platform},
	"A60": {drop: Unrelated}, // the head is missing
	"A61": {drop: Unrelated},
	"A62": {want: found{1, "searchpartyd", 159, 1, "network-bind", "local:*:55330", ""}},
	"A63": {want: found{1, "mediaplaybackd", 346, 1, "network-bind", "local:*:55331", ""}},
	"A65": {drop: Broken}, // the pid is left out
	"A67": {drop: Broken},
	"A68": {drop: Unrelated},
	"A69": {want: found{1, "codex", 92712, 1, "mach-lookup", "com.apple.system.notification_center", ""}},
	"A70": {want: found{1, "codex", 92712, 1, "mach-lookup", "com.apple.diagnosticd", ""}},
	"A71": {want: found{1, "codex", 92712, 1, "file-ioctl", "path:/dev/dtracehelper", ""}},
	"A73": {drop: Unrelated},
	"A74": {want: found{1, "wc", 89150, 1, "file-read-data", "/private/etc/sudoers", ""}},
	"A76": {drop: Unrelated}, // the head is missing
	"A77": {drop: Unrelated},
	"A78": {drop: Unrelated},
	"A81": {want: found{1, "mdworker", 15726, 1, "mach-lookup", "com.apple.security.syspolicy", ""}},
	// The source cut the target after "file-read-data": what is left parses.
	"A82": {want: found{1, "logd_helper", 15377, 1, "file-read-data", "...", ""}},
	"A83": {drop: Broken},
	"A84": {drop: Broken},
}

// readRecords gives the texts of testdata/violations.txt by their names.
func readRecords(t testing.TB) map[string]string {
	t.Helper()
	b, err := os.ReadFile("testdata/violations.txt")
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, block := range strings.Split("\n"+string(b), "\n## ")[1:] {
		id, text, _ := strings.Cut(block, "\n")
		out[id] = strings.TrimSuffix(text, "\n")
	}
	return out
}

// messageOf takes off what stands before a message: a style's line, or what
// another program showed there. Of sandboxd's reports the first line counts.
func messageOf(t testing.TB, text string) string {
	t.Helper()
	if strings.HasPrefix(text, "{") {
		r, o := parseNDJSON([]byte(text), &lineMemory{})
		if o != Kept {
			t.Fatalf("%s: %v", text, o)
		}
		return r.Text
	}
	first, rest, more := strings.Cut(text, "\n")
	if h, ok := parseHeader([]byte(first), time.UTC); ok {
		if h.reporter == SomeProcess {
			t.Fatalf("%s: not of the kernel or sandboxd", first)
		}
		return Record{Reporter: h.reporter, Text: strings.TrimSuffix(h.text+"\n"+rest, "\n")}.violationText()
	}
	for _, lead := range []string{"sandboxd  " + violation, "\tkernel\t", "<Error>: "} {
		if _, msg, ok := strings.Cut(first, lead); ok {
			return msg
		}
	}
	if more && strings.HasPrefix(rest, "Violation:") {
		return first
	}
	return text
}

func TestEveryRecordOfMacOSSaysWhatAPersonReadsInIt(t *testing.T) {
	texts := readRecords(t)
	for id := range texts {
		if _, ok := records[id]; !ok {
			t.Errorf("%s: nobody has read this record", id)
		}
	}
	for id, tt := range records {
		t.Run(id, func(t *testing.T) {
			text, ok := texts[id]
			if !ok {
				t.Fatal("no such record")
			}
			v, o := ParseViolation(messageOf(t, text))
			if tt.want.count == 0 {
				if o != tt.drop {
					t.Errorf("outcome %v, want %v (%+v)", o, tt.drop, v)
				}
				return
			}
			got := found{v.Count, v.Name, v.PID, v.Errno, v.Op, v.Target, v.Message}
			if o != Kept || got != tt.want || v.Cut {
				t.Errorf("%v %+v, want %+v", o, got, tt.want)
			}
		})
	}
}

// TestEveryRecordOfMacOSIsImportedAsAnEventOrCounted puts each through the whole
// way: as it was printed where that is a line of a style, else as a record of
// the kernel's in two styles.
func TestEveryRecordOfMacOSIsImportedAsAnEventOrCounted(t *testing.T) {
	printed := 0
	for id, text := range readRecords(t) {
		tt := records[id]
		message := messageOf(t, text)
		inputs := []string{kernelSays(message), "2026-09-18 11:11:11.806671-0400  localhost kernel[0]: (Sandbox) " + message}
		if _, ok := parseHeader([]byte(text), time.UTC); ok || strings.HasPrefix(text, "{") {
			inputs = append(inputs, text)
			printed++
		}
		for _, in := range inputs {
			var got []event.Event
			sum, err := Import(strings.NewReader(in+"\n"), "", func(e event.Event) error { got = append(got, e); return nil })
			if err != nil {
				t.Fatal(err)
			}
			if tt.want.count == 0 {
				var want Counts
				want[tt.drop] = 1
				if len(got) != 0 || sum.Outcomes != want {
					t.Errorf("%s: %d events, counted %v, want %v", id, len(got), sum.Outcomes, want)
				}
				continue
			}
			if len(got) != 1 || sum.Outcomes != (Counts{Kept: 1}) || sum.Attempts != tt.want.count {
				t.Errorf("%s: %d events, %+v", id, len(got), sum)
				continue
			}
			e := got[0]
			shown := fmt.Sprint(e.Object.Path, e.Object.Socket, e.Object.Ref)
			if e.Count != tt.want.count || e.Process.PID != tt.want.pid || string(e.Process.Comm) != tt.want.name ||
				!strings.HasPrefix(string(e.Detail), tt.want.op+" refused, reported by ") || shown != strings.TrimPrefix(tt.want.target, "path:") {
				t.Errorf("%s: %+v by %+v, want %+v", id, e, e.Process, tt.want)
			}
		}
	}
	if printed < 10 {
		t.Errorf("only %d records are lines of a style", printed)
	}
	t.Logf("%d records are lines of a style", printed)
}

func TestViolationsAreReadByTheGrammarAlone(t *testing.T) {
	for _, tt := range []struct {
		name, text string
		want       found
		cut        bool
	}{
		{"one duplicate", "1 duplicate report for Sandbox: a(2) deny(1) x /y", found{1, "a", 2, 1, "x", "/y", ""}, false},
		{"no target", "Sandbox: a(2) deny(1) process-fork", found{1, "a", 2, 1, "process-fork", "", ""}, false},
		{"no target, a message", "Sandbox: a(2) deny(1) process-fork\nTAG", found{1, "a", 2, 1, "process-fork", "", "TAG"}, false},
		{"padding", "Sandbox: a(2)      deny(1) x y", found{1, "a", 2, 1, "x", "y", ""}, false},
		{"a name of spaces and dots", "Sandbox: Google Chrome H.(x)(7) deny(1) x y", found{1, "Google Chrome H.(x)", 7, 1, "x", "y", ""}, false},
		{"a name that looks like a platform report", "Sandbox: (1) System Policy: deny(1)(42) deny(1) file-read-data /x",
			found{1, "(1) System Policy: deny(1)", 42, 1, "file-read-data", "/x", ""}, false},
		{"a name that looks like an allowed operation", "Sandbox: (1) allow x(42) deny(1) file-read-data /x",
			found{1, "(1) allow x", 42, 1, "file-read-data", "/x", ""}, false},
		{"a name that looks like a report with no operation", "Sandbox: a(1) deny(1) X(42) deny(1) file-read-data /x",
			found{1, "a(1) deny(1) X", 42, 1, "file-read-data", "/x", ""}, false},
		{"a line break in the target", "Sandbox: a(2) deny(1) file-read-data /x\ny\nTAG", found{1, "a", 2, 1, "file-read-data", "/x\ny", "TAG"}, false},
		{"an empty last line", "Sandbox: a(2) deny(1) file-read-data /x\n", found{1, "a", 2, 1, "file-read-data", "/x", ""}, false},
		{"an operation with a part", "Sandbox: ln(3) deny(1) forbidden-link-priv<file-read*> /a  /b", found{1, "ln", 3, 1, "forbidden-link-priv<file-read*>", "/a  /b", ""}, false},
		{"cut", "Sandbox: a(2) deny(1) file-read-data /xxxx‹…>", found{1, "a", 2, 1, "file-read-data", "/xxxx‹…>", ""}, true},
		{"cut in the message's place", "Sandbox: a(2) deny(1) file-read-data /x\ny<…>", found{1, "a", 2, 1, "file-read-data", "/x\ny<…>", ""}, true},
		{"another error", "Sandbox: a(2) deny(13) x y", found{1, "a", 2, 13, "x", "y", ""}, false},
		{"signal", "Sandbox: kill(9) deny(1) signal others [Safari(5085)] signum:15", found{1, "kill", 9, 1, "signal", "others [Safari(5085)] signum:15", ""}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			v, o := ParseViolation(tt.text)
			got := found{v.Count, v.Name, v.PID, v.Errno, v.Op, v.Target, v.Message}
			if o != Kept || got != tt.want || v.Cut != tt.cut {
				t.Errorf("%v %+v cut %v\nwant %+v cut %v", o, got, v.Cut, tt.want, tt.cut)
			}
		})
	}
}

func TestWhatIsNoDenialOfAProfileIsNotOne(t *testing.T) {
	for _, tt := range []struct {
		name, text string
		want       Outcome
	}{
		{"nothing", "", Unrelated},
		{"other words of the kernel", "wlan0: link up", Unrelated},
		{"other words before", "x Sandbox: a(2) deny(1) x y", Unrelated},
		{"platform policy", "Sandbox: a(2) System Policy: deny(1) x y", Platform},
		{"platform policy, alone", "System Policy: a(2) deny(1) x y", Platform},
		{"platform policy, repeated", "3 duplicate reports for Sandbox: a(2) System Policy: deny(1) x y", Platform},
		{"allowed", "Sandbox: a(2) allow file-read-data /x", Allowed},
		{"no pid", "Sandbox: a deny(1) x y", Broken},
		{"a pid of letters", "Sandbox: a(PID) deny(1) x y", Broken},
		{"a pid too large", "Sandbox: a(99999999999) deny(1) x y", Broken},
		{"a negative pid", "Sandbox: a(-1) deny(1) x y", Broken},
		{"no space", "Sandbox: a(2)deny(1) x y", Broken},
		{"no error number", "Sandbox: a(2) deny() x y", Broken},
		{"no operation", "Sandbox: a(2) deny(1) ", Broken},
		{"an operation in capitals", "Sandbox: a(2) deny(1) File y", Broken},
		{"an operation with a star inside", "Sandbox: a(2) deny(1) fi*le y", Broken},
		{"an operation with an open part", "Sandbox: a(2) deny(1) x<y z", Broken},
		{"an operation with an empty part", "Sandbox: a(2) deny(1) x<> z", Broken},
		{"no duplicates", "0 duplicate reports for Sandbox: a(2) deny(1) x y", Unrelated},
		{"a head too far away", "Sandbox: " + strings.Repeat("a", maxNameSpan) + "(2) deny(1) x y", Broken},
		{"cut short", "Sandbox: a(2) den", Broken},
	} {
		if v, o := ParseViolation(tt.text); o != tt.want {
			t.Errorf("%s: %v (%+v), want %v", tt.name, o, v, tt.want)
		}
	}
}

func FuzzParseViolation(f *testing.F) {
	for _, text := range readRecords(f) {
		f.Add(text)
	}
	f.Add("2 duplicate reports for Sandbox: a(b)(3)  deny(1) x<y*> z\nw")
	f.Fuzz(func(t *testing.T, text string) {
		v, o := ParseViolation(text)
		if o != Kept {
			if v != (Violation{}) {
				t.Fatalf("%v, but %+v", o, v)
			}
			return
		}
		if v.Count == 0 || v.PID < 0 || !validOp(v.Op) {
			t.Fatalf("%q: %+v", text, v)
		}
		for _, part := range []string{v.Name, v.Target, v.Message, v.Op} {
			if !strings.Contains(text, part) {
				t.Fatalf("%q is not in %q", part, text)
			}
		}
		// Whatever the text was, its own grammar says the same once more.
		if again, o := ParseViolation(v.print()); o != Kept || again != v {
			t.Fatalf("%q: %+v, printed and read again %+v", text, v, again)
		}
	})
}

// print is the text that a violation would be read from.
func (v Violation) print() string {
	var b strings.Builder
	if v.Count > 1 {
		b.WriteString(uitoa(v.Count) + " duplicate reports for ")
	}
	b.WriteString("Sandbox: " + v.Name + "(" + uitoa(uint64(v.PID)) + ") deny(" + uitoa(uint64(v.Errno)) + ") " + v.Op)
	if v.Target != "" {
		b.WriteString(" " + v.Target)
	}
	if v.Message != "" || !v.Cut && strings.Contains(v.Target, "\n") {
		b.WriteString("\n" + v.Message)
	}
	return b.String()
}

func uitoa(n uint64) string { return strconv.FormatUint(n, 10) }
