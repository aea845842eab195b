package export

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sallyport/sallyport/internal/audit"
	"github.com/sallyport/sallyport/internal/event"
	"golang.org/x/sys/unix"
)

// Directories of tests are private, whatever the user's umask: logs are refused in
// others.
func init() { unix.Umask(0o022) }

// side is another side that does what it is told to.
type side struct {
	answer func(list []Record) error
	calls  int
	most   int            // records in one list
	taken  map[string]int // by id
}

func (s *side) Send(ctx context.Context, list []Record) error {
	s.calls++
	s.most = max(s.most, len(list))
	if s.answer != nil {
		if err := s.answer(list); err != nil {
			if errors.Is(err, errSilent) { // it does not answer at all
				<-ctx.Done()
				return ctx.Err()
			}
			return err
		}
	}
	if s.taken == nil {
		s.taken = map[string]int{}
	}
	for _, r := range list {
		s.taken[r.ID]++
	}
	return nil
}

var errSilent = errors.New("no answer")

// log is a directory with one log that is being written.
type testLog struct {
	t   testing.TB
	dir string
	*audit.Writer
	n int
}

func newLog(t testing.TB, dir, id string) *testLog {
	t.Helper()
	w, err := audit.Create(dir, audit.Header{Sandbox: event.Sandbox{ID: id}, Host: "h", BootID: "b"})
	if err != nil {
		t.Fatal(err)
	}
	return &testLog{t: t, dir: dir, Writer: w}
}

func (l *testLog) add(n int) {
	l.t.Helper()
	for range n {
		l.n++
		if err := l.Append(event.Event{Layer: event.LayerProxy, Operation: event.NetConnect, Reason: event.NotAllowed,
			Rule: "builtin:default-deny", Object: event.Object{Host: event.Text(fmt.Sprintf("host-%d.example", l.n)), Port: 443}}); err != nil {
			l.t.Fatal(err)
		}
	}
}

func (l *testLog) id(n int) string { return fmt.Sprintf("%s:%d", filepath.Base(l.Path()), n) }

func options(dir string, s Sender) Options {
	return Options{Dir: dir, State: filepath.Join(dir, "state", "export.json"), Sender: s}
}

// missing lists the events of a log that the side does not have.
func (s *side) missing(l *testLog) (out []int) {
	for i := 1; i <= l.n; i++ {
		if s.taken[l.id(i)] == 0 {
			out = append(out, i)
		}
	}
	return out
}

// hour runs an exporter for an hour by a simulated clock, while an event is
// written each second, against a side that is not well for that hour; then the
// side recovers. Nothing may be lost, and memory must not grow with the hour.
func hour(t *testing.T, ill func(call int, list []Record) error) (*side, event.Export) {
	t.Helper()
	s := &side{}
	var f event.Export
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		l := newLog(t, dir, "u1")
		defer l.Close()
		ctx, cancel := context.WithCancel(t.Context())
		x := New(options(dir, s))
		healthy := time.Now().Add(time.Hour)
		s.answer = func(list []Record) error {
			if time.Now().Before(healthy) {
				return ill(s.calls, list)
			}
			return nil
		}
		ended := make(chan struct{})
		go func() { defer close(ended); x.Run(ctx, nil) }()
		before := heap()
		for time.Now().Before(healthy) {
			l.add(1) // it waits for nobody
			time.Sleep(time.Second)
		}
		if grown := int64(heap()) - int64(before); grown > 4<<20 {
			t.Errorf("memory has grown by %d KiB", grown>>10)
		}
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		f = x.Figures()
		cancel()
		<-ended
		if left := s.missing(l); len(left) > 0 {
			t.Errorf("%d of %d events are missing, %d first", len(left), l.n, left[0])
		}
		if f.Lost != 0 || f.Sent != uint64(l.n) || f.Behind != 0 {
			t.Errorf("figures %+v of %d events", f, l.n)
		}
	})
	if s.most > batchMost {
		t.Errorf("%d events at once", s.most)
	}
	return s, f
}

func heap() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func TestNothingIsLostWhileTheOtherSideIsAwayForAnHour(t *testing.T) {
	s, f := hour(t, func(int, []Record) error { return errors.New("connection refused") })
	if f.Failures == 0 || s.calls > 200 {
		t.Errorf("%d calls, figures %+v", s.calls, f)
	}
}

func TestNothingIsLostWhileTheOtherSideIsSlowForAnHour(t *testing.T) {
	_, f := hour(t, func(int, []Record) error { return errSilent })
	if f.Failures == 0 {
		t.Errorf("figures %+v", f)
	}
}

func TestNothingIsLostWhileTheOtherSideRefusesAllForAnHour(t *testing.T) {
	hour(t, func(int, []Record) error { return fmt.Errorf("%w: 400", ErrRefused) })
}

func TestNothingIsLostWhileTheOtherSideSaysLater(t *testing.T) {
	s, _ := hour(t, func(int, []Record) error { return &LaterError{5 * time.Minute, errors.New("429")} })
	if s.calls > 40 {
		t.Errorf("%d calls within an hour in which it was told to wait 5 minutes each time", s.calls)
	}
}

func TestNothingIsLostWhileTheOtherSideChangesItsMind(t *testing.T) {
	hour(t, func(call int, _ []Record) error {
		return []error{nil, errSilent, errors.New("reset"), fmt.Errorf("%w: 413", ErrRefused)}[call%4]
	})
}

func TestWhatIsRefusedByItselfIsCountedAndTheRestGoesOn(t *testing.T) {
	for _, bad := range [][]int{{1}, {500}, {7, 8}, {1, 2, 250, 499}, {1, 2, 3, 4, 5, 6}, {498, 499, 500}} {
		t.Run(fmt.Sprint(bad), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				dir := t.TempDir()
				l := newLog(t, dir, "u1")
				defer l.Close()
				s := &side{}
				s.answer = func(list []Record) error {
					for _, r := range list {
						if slices.Contains(bad, int(r.Seq)) {
							return ErrRefused
						}
					}
					return nil
				}
				l.add(500)
				ctx, cancel := context.WithCancel(t.Context())
				x := New(options(dir, s))
				ended := make(chan struct{})
				go func() { defer close(ended); x.Run(ctx, nil) }()
				time.Sleep(time.Hour)
				synctest.Wait()
				cancel()
				<-ended
				if left := s.missing(l); !slices.Equal(left, bad) {
					t.Errorf("missing %v, want %v", left, bad)
				}
				if f := x.Figures(); f.Lost != uint64(len(bad)) || f.Sent != uint64(500-len(bad)) {
					t.Errorf("figures %+v", f)
				}
			})
		})
	}
}

func TestASuccessorGoesOnWhereTheOtherWas(t *testing.T) {
	dir := t.TempDir()
	l := newLog(t, dir, "u1")
	l.add(1200)
	s := &side{}
	ended := make(chan struct{})
	close(ended)
	s.answer = func([]Record) error { // it is killed after two lists
		if s.calls == 3 {
			return errors.New("away")
		}
		return nil
	}
	New(options(dir, s)).Run(t.Context(), ended)
	if len(s.taken) != 1000 {
		t.Fatalf("%d events were taken", len(s.taken))
	}
	l.add(100)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	other := newLog(t, dir, "u2")
	other.add(10)
	defer other.Close()
	x := New(options(dir, s))
	x.Run(t.Context(), ended)
	if len(s.missing(l))+len(s.missing(other)) > 0 {
		t.Errorf("missing %v and %v", s.missing(l), s.missing(other))
	}
	for id, n := range s.taken {
		if n != 1 {
			t.Errorf("%s was sent %d times, though nobody failed", id, n)
		}
	}
	if f := x.Figures(); f.Sent != 1310 || f.Lost != 0 || f.Behind != 0 {
		t.Errorf("figures %+v", f)
	}
}

func TestALogThatIsRemovedBeforeItWasSentIsCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		l := newLog(t, dir, "u1")
		l.add(600)
		s := &side{answer: func([]Record) error { return nil }}
		s.answer = func([]Record) error {
			if s.calls > 1 {
				return errors.New("away")
			}
			return nil
		}
		ctx, cancel := context.WithCancel(t.Context())
		var said []string
		o := options(dir, s)
		o.Warn = func(text string) { said = append(said, text) }
		x := New(o)
		ended := make(chan struct{})
		go func() { defer close(ended); x.Run(ctx, nil) }()
		time.Sleep(time.Minute)
		if err := os.Remove(l.Path()); err != nil {
			t.Fatal(err)
		}
		l.Close()
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		cancel()
		<-ended
		if f := x.Figures(); f.Sent != 500 || f.Lost == 0 {
			t.Errorf("figures %+v", f)
		}
		if !slices.ContainsFunc(said, func(s string) bool { return strings.Contains(s, "removed before") }) {
			t.Errorf("said %q", said)
		}
	})
}

func TestOnlyOneOfSeveralProcessesSends(t *testing.T) {
	dir := t.TempDir()
	l := newLog(t, dir, "u1")
	defer l.Close()
	l.add(1000)
	s := &side{}
	o := options(dir, s)
	unlock, ok, err := audit.LockState(o.State)
	if err != nil || !ok {
		t.Fatal(err)
	}
	last := make(chan struct{})
	close(last)
	New(o).Run(t.Context(), last) // another has it: it sees to the rest
	if s.calls != 0 {
		t.Errorf("%d lists were sent", s.calls)
	}
	unlock()
	New(o).Run(t.Context(), last)
	if len(s.missing(l)) > 0 {
		t.Errorf("%d are missing", len(s.missing(l)))
	}
}

func TestDamagedLinesAreCountedAndGoneOver(t *testing.T) {
	dir := t.TempDir()
	l := newLog(t, dir, "u1")
	l.add(10)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(l.Path())
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.SplitAfter(string(b), "\n")
	lines[3] = "{\"verdict\":\"deny\"}\n"
	lines[5] = strings.Repeat("x", 3<<20) + "\n"
	lines = append(lines, `{"schema":1,"seq":11`) // torn
	if err := os.WriteFile(l.Path(), []byte(strings.Join(lines, "")), 0o600); err != nil {
		t.Fatal(err)
	}
	s := &side{}
	last := make(chan struct{})
	close(last)
	x := New(options(dir, s))
	x.Run(t.Context(), last)
	if left := s.missing(l); !slices.Equal(left, []int{4, 6}) {
		t.Errorf("missing %v", left)
	}
	if f := x.Figures(); f.Lost < 2 || f.Behind != 0 {
		t.Errorf("figures %+v", f)
	}
}
