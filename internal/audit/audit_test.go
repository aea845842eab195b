package audit

import (
	"bytes"
	"flag"
	"iter"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/event"
)

var update = flag.Bool("update", false, "write the golden files anew")

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// at gives a denial at noon and some seconds.
func at(seconds float64) event.Event {
	return event.Event{Time: noon.Add(time.Duration(seconds * float64(time.Second))), Layer: event.LayerProxy,
		Operation: event.NetConnect, Object: event.Object{Host: "evil.example", Port: 443, Proto: "tcp"},
		Rule: "builtin:default-deny", Process: &event.Process{PID: 7, ExecID: "7:1", Comm: "curl"}}
}

// writeLog writes a finished log that started when its first event happened.
func writeLog(t testing.TB, dir, id string, events ...event.Event) string {
	t.Helper()
	name, err := fileName(events[0].Time, id)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, name)
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	w := newWriter(path, f, nil, Header{Sandbox: event.Sandbox{ID: id}})
	for _, e := range events {
		if err := w.Append(e); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

// lines gives the lines of a log as bytes.
func lines(t testing.TB, path string) [][]byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Split(bytes.TrimSuffix(b, []byte("\n")), []byte("\n"))
}

// collect takes everything an iterator gives.
func collect[T any](seq iter.Seq2[T, error]) (values []T, errs []error) {
	for v, err := range seq {
		if err != nil {
			errs = append(errs, err)
		} else {
			values = append(values, v)
		}
	}
	return values, errs
}

// readAll gives the events of a log that must be without fault.
func readAll(t testing.TB, path string) []event.Event {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := Verify(bytes.NewReader(b), path); err != nil {
		t.Fatal(err)
	}
	events, errs := collect(Read(bytes.NewReader(b), path))
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	return events
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs (-update writes it anew); got:\n%s\nwant:\n%s", path, got, want)
	}
}

func TestDirFollowsTheXDGSpecification(t *testing.T) {
	for _, tt := range []struct{ name, state, home, want string }{
		{"set", "/s", "/h", "/s/sallyport/audit"},
		{"unset", "", "/h", "/h/.local/state/sallyport/audit"},
		{"relative is ignored", "s", "/h", "/h/.local/state/sallyport/audit"},
		{"set without a home", "/s", "", "/s/sallyport/audit"},
		{"neither", "", "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			getenv := func(k string) string {
				return map[string]string{"XDG_STATE_HOME": tt.state}[k]
			}
			if got := Dir(getenv, tt.home); got != tt.want {
				t.Errorf("Dir = %q, want %q", got, tt.want)
			}
		})
	}
}

func TestFileNamesSortByTimeAndHoldTheSandbox(t *testing.T) {
	var last string
	for _, after := range []time.Duration{0, 1, time.Millisecond, time.Second, time.Hour, 1000 * time.Hour} {
		start := noon.Add(after).In(time.FixedZone("", -7*3600))
		name, err := fileName(start, "box-1")
		if err != nil {
			t.Fatal(err)
		}
		if name <= last || !strings.Contains(name, "box-1") || !started(name).Equal(start) {
			t.Errorf("%q after %q; started %v, want %v", name, last, started(name), start)
		}
		last = name
	}
	for _, name := range []string{"", "x.jsonl", "20261322T000000.000000000Z-a.jsonl"} {
		if got := started(name); !got.IsZero() {
			t.Errorf("started(%q) = %v", name, got)
		}
	}
}

func TestSandboxIDsThatAreNotFileNamesAreRefused(t *testing.T) {
	for _, id := range []string{"", "..", ".a", "-a", "a/b", "../a", "a\x00", "a\n", "é", strings.Repeat("a", 65)} {
		if name, err := fileName(noon, id); err == nil {
			t.Errorf("id %q gave the name %q", id, name)
		}
	}
}
