package seatbelt

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/sallyport/sallyport/internal/event"
)

func scanAll(t testing.TB, in io.Reader) ([]Record, Counts) {
	t.Helper()
	s := NewScanner(in)
	s.Zone = time.UTC
	var out []Record
	for {
		r, err := s.Next()
		if err == io.EOF {
			return out, s.Counts()
		}
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, r)
	}
}

const report = "Sandbox: cat(22304) deny(1) file-read-data /private/tmp/a b/.env"

func TestAKernelRecordIsReadAlikeInEveryStyle(t *testing.T) {
	at := time.Date(2026, 9, 18, 15, 11, 11, 806671000, time.UTC)
	short := time.Date(2026, 9, 18, 15, 11, 11, 806000000, time.UTC)
	for _, tt := range []struct {
		name, text string
		time       time.Time
	}{
		{"ndjson", logEntry(0, "/kernel", report), at},
		{"ndjson, spread out", strings.NewReplacer(":0,", " : 0 ,\t").Replace(logEntry(0, "/kernel", report)) + " \r", at},
		{"syslog", "2026-09-18 11:11:11.806671-0400  localhost kernel[0]: (Sandbox) " + report, at},
		{"syslog with a subsystem", "2026-09-18 11:11:11.806671-0400  localhost kernel[0]: (Sandbox) " + violation + report, at},
		{"compact", "2026-09-18 15:11:11.806 E  kernel[0:1bf69] " + violation + report, short},
		{"default", "2026-09-18 11:11:11.806671-0400 0xc912c6   Error       0x0                  0      0    kernel: (Sandbox) " + report, at},
		{"default, single spaces", "2026-09-18 11:11:11.806671-0400 0xdbf47 Error 0x0 0 0 kernel: (Sandbox) " + report, at},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, counts := scanAll(t, strings.NewReader(tt.text+"\n"))
			if len(got) != 1 || counts != (Counts{}) {
				t.Fatalf("%d records, %v", len(got), counts)
			}
			r := got[0]
			if r.Text != report || r.Reporter != Kernel || !r.Time.Equal(tt.time) {
				t.Errorf("got %+v", r)
			}
		})
	}
}

func TestOnlyTheKernelAndSandboxdAreBelieved(t *testing.T) {
	const stamp = "2026-09-18 11:11:11.806671-0400  localhost "
	for _, tt := range []struct{ name, text string }{
		{"ndjson: another pid", logEntry(4242, "/kernel", report)},
		{"ndjson: another program of pid 0", logEntry(0, "/usr/bin/logger", report)},
		{"ndjson: a program called kernel", logEntry(4242, "/tmp/kernel", report)},
		{"ndjson: sandboxd elsewhere", logEntry(4242, "/tmp/sandboxd", report)},
		{"ndjson: sandboxd as pid 0", logEntry(0, sandboxdPath, report)},
		{"syslog: another program", stamp + "logger[4242]: " + report},
		{"syslog: a program called kernel", stamp + "kernel[4242]: (Sandbox) " + report},
		{"syslog: a program whose name ends in kernel[0]", stamp + "x kernel[0]: " + report},
		{"compact: another program", "2026-09-18 15:11:11.806 E  logger[4242:1bf69] " + report},
		{"compact: no thread", "2026-09-18 15:11:11.806 E  kernel[0:x] " + report},
		{"default: another program", "2026-09-18 11:11:11.806671-0400 0xdbf47 Error 0x0 0 0 logger: " + report},
		{"default: a program called kernel", "2026-09-18 11:11:11.806671-0400 0xdbf47 Error 0x0 4242 0 kernel: (Sandbox) " + report},
		{"default: sandboxd as pid 0", "2026-09-18 11:11:11.806671-0400 0xdbf47 Error 0x0 0 0 sandboxd: " + report},
	} {
		got, counts := scanAll(t, strings.NewReader(tt.text+"\n"))
		if len(got) != 0 || counts[OtherProcess] != 1 {
			t.Errorf("%s: %d records, %v", tt.name, len(got), counts)
		}
	}
}

func TestSandboxdIsReadAndNamed(t *testing.T) {
	body := report + "\nProcess:         cat [22304]\nUser ID:         501\n\nMetaData: {\"uid\":501}"
	for _, text := range []string{
		logEntry(601, sandboxdPath, body),
		"2026-09-18 11:11:11.806671-0400  localhost sandboxd[601]: " + violation + body,
		"2026-09-18 11:11:11.806 E  sandboxd[601:1bf69] " + violation + body,
		"2026-09-18 11:11:11.806671-0400 0x1095684  Error       0x0                  601    0    sandboxd: " + violation + body,
	} {
		got, counts := scanAll(t, strings.NewReader(text+"\n"))
		if len(got) != 1 || got[0].Reporter != Sandboxd || got[0].Text != body || counts != (Counts{}) {
			t.Errorf("%.60s: %+v, %v", text, got, counts)
			continue
		}
		v, o := ParseViolation(got[0].violationText())
		if e := v.Event(got[0]); o != Kept || e.Process.UID != 501 || !strings.Contains(string(e.Detail), "reported by sandboxd") {
			t.Errorf("%.60s: %v %+v", text, o, e)
		}
	}
}

func TestLinesOfAMessageStayTogether(t *testing.T) {
	const first = "2026-09-18 11:11:11.806671-0400  localhost kernel[0]: (Sandbox) Sandbox: nc(1) deny(1) network-outbound remote:*:9"
	in := "Filtering the log data using \"x\"\n" +
		"Timestamp                       Thread     Type        Activity             PID    TTL\n" +
		first + "\nTAG\n" + first + "\n" + first + "\n\nlast\n\n" +
		"2026-09-18 11:11:12.000000-0400  localhost other[7]: a\nb\n" + logEntry(0, "/kernel", report) + "\n" +
		"--------------------\nLog      - Default:          0, Info:                0\nstray\n"
	got, counts := scanAll(t, strings.NewReader(in))
	var texts []string
	for _, r := range got {
		_, text, _ := strings.Cut(r.Text, "remote:*:9")
		texts = append(texts, text)
	}
	if want := []string{"\nTAG", "", "\n\nlast", ""}; fmt.Sprint(texts) != fmt.Sprint(want) || got[3].Text != report {
		t.Errorf("got %q, want %q", texts, want)
	}
	want := Counts{Banner: 4, OtherProcess: 1, Broken: 1}
	if counts != want {
		t.Errorf("got %v, want %v", counts, want)
	}
}

func TestBrokenLinesAreCountedAndDoNotSpoilOthers(t *testing.T) {
	whole := logEntry(0, "/kernel", report)
	twice := strings.Replace(logEntry(4242, "/tmp/x", report), `"processID":4242`, `"processID":0,"processID":4242`, 1)
	for _, tt := range []struct {
		name, line string
		want       Outcome
	}{
		{"cut off", whole[:len(whole)-40], Broken},
		{"cut off at the end", whole[:len(whole)-1], Broken},
		{"two objects", whole + whole, Broken},
		{"a member twice", twice, Broken},
		{"a comma too many", strings.Replace(whole, `""}`, `"",}`, 1), Broken},
		{"a control character", strings.Replace(whole, "Error", "Err\x01or", 1), Broken},
		{"an escape that is none", strings.Replace(whole, "Error", `Err\qor`, 1), Broken},
		{"a pid that is text", strings.Replace(whole, `"processID":0`, `"processID":"0"`, 1), Broken},
		{"a pid with a point", strings.Replace(whole, `"processID":0`, `"processID":0.0`, 1), Broken},
		{"no pid", strings.Replace(whole, `"processID":0,`, ``, 1), Broken},
		{"no path", strings.Replace(whole, `"processImagePath":"/kernel",`, ``, 1), Broken},
		{"no message", strings.Replace(whole, `"eventMessage"`, `"x"`, 1), Broken},
		{"a time that is none", strings.Replace(whole, "2026-09-18", "2026-19-18", 1), Broken},
		{"nested too deep", strings.Replace(whole, `null`, strings.Repeat("[", 200)+strings.Repeat("]", 200), 1), Broken},
		{"an activity", `{"eventType":"activityCreateEvent","processID":0,"processImagePath":"\/kernel"}`, OtherProcess},
		{"the end", `{"count":7,"finished":1}`, Banner},
		{"words", "log: something happened", Banner},
		{"other words", "something happened", Broken},
		{"too long", `{"eventMessage":"` + strings.Repeat("x", maxRecord) + `"}`, TooLong},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, counts := scanAll(t, strings.NewReader(whole+"\n"+tt.line+"\n\n"+whole))
			var want Counts
			want[tt.want] = 1
			if len(got) != 2 || counts != want {
				t.Errorf("%d records, %v", len(got), counts)
			}
		})
	}
}

func TestATextRecordTooLongIsDroppedWhole(t *testing.T) {
	const head = "2026-09-18 11:11:11.806671-0400  localhost kernel[0]: "
	lines := strings.Repeat(strings.Repeat("y", 1000)+"\n", maxRecord/1000)
	got, counts := scanAll(t, strings.NewReader(head+report+"\n"+lines+head+report+"\n"+
		head+report+"\n"+strings.Repeat("z", maxRecord+1)+"\n"+head+report+"\n"))
	if len(got) != 2 || counts != (Counts{TooLong: 2}) {
		t.Errorf("%d records, %v", len(got), counts)
	}
}

func TestLossIsSaidByTheLog(t *testing.T) {
	for line, want := range map[string]uint64{
		`{"eventType":"lossEvent","timestamp":"2026-09-18 11:11:11.806671-0400","lossCount":12}`: 12,
		`{"eventType":"lossEvent","lossCount":{"count":12,"saturated":false}}`:                   1,
		`{"eventType":"lossEvent"}`: 1,
		`{"eventMessage":null,"eventType":"lossEvent","processID":0,"processImagePath":"\/kernel"}`: 1,
	} {
		got, _ := scanAll(t, strings.NewReader(line))
		if len(got) != 1 || got[0].Lost != want {
			t.Errorf("%s: %+v, want %d", line, got, want)
		}
	}
}

func TestHowTheBytesArriveMakesNoDifference(t *testing.T) {
	in := strings.Repeat(logEntry(0, "/kernel", "Sandbox: é(1) deny(1) file-read-data /日本/\U0001F600\nTAG")+"\n", 20)
	want, _ := scanAll(t, strings.NewReader(in))
	for name, r := range map[string]io.Reader{
		"a byte at a time": iotest.OneByteReader(strings.NewReader(in)),
		"halves":           iotest.HalfReader(strings.NewReader(in)),
		"data and EOF":     iotest.DataErrReader(strings.NewReader(in)),
	} {
		if got, _ := scanAll(t, r); fmt.Sprint(got) != fmt.Sprint(want) || len(got) != 20 {
			t.Errorf("%s: %d records differ", name, len(got))
		}
	}
	if want[0].Text != "Sandbox: é(1) deny(1) file-read-data /日本/\U0001F600\nTAG" {
		t.Errorf("got %q", want[0].Text)
	}
}

// endless gives one record after another, in every style and broken, until n
// bytes have been read.
type endless struct {
	left  int
	i     int
	piece []byte
}

func (e *endless) Read(p []byte) (int, error) {
	if e.left <= 0 {
		return 0, io.EOF
	}
	if len(e.piece) == 0 {
		long := strings.Repeat("x", e.i%3000)
		const text = "2026-09-18 11:11:11.806671-0400  localhost kernel[0]: (Sandbox) "
		e.piece = []byte([]string{
			nth(logEntry(0, "/kernel", report+long+"\nTAG"), e.i), nth(logEntry(4242, "/usr/bin/other", long), e.i),
			text + report + "\n" + long, `{"` + long + `":1,"a` + long, long, nth(logEntry(601, sandboxdPath, report), e.i),
		}[e.i%6] + "\n")
		e.i++
	}
	n := copy(p, e.piece)
	e.piece, e.left = e.piece[n:], e.left-n
	return n, nil
}

func TestMemoryDoesNotGrowWithTheLog(t *testing.T) {
	used := func() int {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return int(m.HeapAlloc)
	}
	var early, late, events int
	in := &endless{left: 12 << 20}
	_, err := Import(in, "", func(event.Event) error {
		if events++; events == 1000 {
			early = used()
		}
		if in.left < 1<<20 && late == 0 {
			late = used()
		}
		return nil
	})
	if err != nil || early == 0 || late == 0 || events < 3000 {
		t.Fatal(err, events, early, late)
	}
	if late > early+1<<20 {
		t.Errorf("%d bytes in use after 1000 events, %d after %d", early, late, events)
	}
}

func TestAReadErrorIsNotTheEnd(t *testing.T) {
	s := NewScanner(io.MultiReader(strings.NewReader(logEntry(0, "/kernel", report)+"\n"), iotest.ErrReader(errors.New("gone"))))
	if _, err := s.Next(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Next(); err == nil || err == io.EOF {
		t.Errorf("got %v", err)
	}
}

func TestUnescape(t *testing.T) {
	for in, want := range map[string]string{
		`a\/b`: "a/b", `\"\\\b\f\n\r\t`: "\"\\\b\f\n\r\t", `\u00e9`: "é", `\uD83D\uDE00`: "\U0001F600",
		`\ud83d`: "\ufffd", `\ud83dx`: "\ufffdx", `\ud83d\u0041`: "\ufffdA", `\u2039\u2026>`: "‹…>",
	} {
		var viaJSON string
		if err := json.Unmarshal([]byte(`"`+in+`"`), &viaJSON); err != nil || viaJSON != want {
			t.Errorf("%s: the test is wrong: %q", in, viaJSON)
		}
		if got, err := unescape(nil, []byte(in)); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v, want %q", in, got, err, want)
		}
	}
}

func FuzzScanner(f *testing.F) {
	for _, text := range readRecords(f) {
		f.Add([]byte(text))
	}
	f.Add([]byte(logEntry(0, "/kernel", report) + "\n" + logEntry(7, sandboxdPath, report)))
	f.Add([]byte("2026-09-18 15:11:11.806 E  kernel[0:1bf69] x\n{\"count\":1,\"finished\":1}\n"))
	f.Fuzz(func(t *testing.T, in []byte) {
		whole, counts := scanAll(t, bytes.NewReader(in))
		split, again := scanAll(t, iotest.OneByteReader(bytes.NewReader(in)))
		if fmt.Sprint(whole, counts) != fmt.Sprint(split, again) {
			t.Fatalf("split differently: %v %v, %v %v", whole, counts, split, again)
		}
		if lines := bytes.Count(in, []byte("\n")) + 1; len(whole) > lines {
			t.Fatalf("%d records of %d lines", len(whole), lines)
		}
		for _, r := range whole {
			if r.Reporter == SomeProcess && r.Lost == 0 {
				t.Fatalf("a record of some process: %+v", r)
			}
		}
	})
}
