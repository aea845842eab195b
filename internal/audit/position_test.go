package audit

import (
	"bytes"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/event"
)

// denials makes a log with n lines, and leaves it open.
func denials(t *testing.T, dir, id string, n int) *Writer {
	t.Helper()
	w, err := Create(dir, Header{Sandbox: event.Sandbox{ID: id}})
	if err != nil {
		t.Fatal(err)
	}
	more(t, w, n)
	return w
}

func more(t *testing.T, w *Writer, n int) {
	t.Helper()
	for range n {
		if err := w.Append(event.Event{Layer: event.LayerProxy, Operation: event.NetConnect, Rule: "builtin:x"}); err != nil {
			t.Fatal(err)
		}
	}
}

func TestALedgerIsWhatTheLogsAddUpToHoweverOftenItIsRead(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, ".ledger.json")
	var want uint64
	check := func(live int) {
		t.Helper()
		l, err := LoadLedger(path)
		if err == nil {
			err = l.Update(dir)
		}
		if err == nil {
			err = l.Save(path)
		}
		if err != nil {
			t.Fatal(err)
		}
		if l.Counts.Events != want || l.Live != live || l.Unread != 0 {
			t.Errorf("%d events, %d live, %d unread; want %d, %d, 0", l.Counts.Events, l.Live, l.Unread, want, live)
		}
	}
	check(0)
	a := denials(t, dir, "a", 3)
	b := denials(t, dir, "b", 0)
	want = 3
	check(2)
	check(2)
	more(t, b, 2500) // more than a batch
	more(t, a, 1)
	want += 2501
	check(2)
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	check(1)
	c := denials(t, dir, "c", 2)
	b.file.Close() // killed: it lets go without an end
	want += 2
	check(1)
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	check(0)
	if err := os.WriteFile(path, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadLedger(path); err == nil {
		t.Error("a torn ledger is taken")
	}
}

func TestATornLineIsCountedOnceItIsWhole(t *testing.T) {
	dir := t.TempDir()
	w := denials(t, dir, "a", 2)
	line, err := os.ReadFile(w.Path())
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(w.Path(), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	line = line[:bytes.IndexByte(line, '\n')+1]
	half := line[:len(line)/3]
	if _, err := f.Write(half); err != nil {
		t.Fatal(err)
	}
	b, err := Position{}.After(dir, 100, time.Now())
	if err != nil || len(b.Entries) != 2 || b.Behind != int64(len(half)) {
		t.Fatalf("%d lines, %d bytes behind: %v", len(b.Entries), b.Behind, err)
	}
	if _, err := f.Write(line[len(half):]); err != nil { // the rest of that line
		t.Fatal(err)
	}
	b, err = b.Next.After(dir, 100, time.Now())
	if err != nil || len(b.Entries) != 1 {
		t.Fatalf("%d lines: %v", len(b.Entries), err)
	}
	if err := w.file.Close(); err != nil { // nobody writes any more
		t.Fatal(err)
	}
	b, err = b.Next.After(dir, 100, time.Now())
	if err != nil || len(b.Entries) != 0 || b.Behind != 0 || !b.Next.Read[filepath.Base(w.Path())].Done {
		t.Errorf("%+v: %v", b, err)
	}
}

func TestNoClockThatIsSetBackHidesALog(t *testing.T) {
	dir := t.TempDir()
	if err := denials(t, dir, "a", 1).Close(); err != nil {
		t.Fatal(err)
	}
	b, err := Position{}.After(dir, 10, time.Now())
	if err != nil || len(b.Entries) != 1 {
		t.Fatalf("%+v: %v", b, err)
	}
	early, err := fileName(time.Now().Add(-30*time.Minute), "b")
	if err != nil {
		t.Fatal(err)
	}
	w := denials(t, dir, "b", 1)
	if err := os.Rename(w.Path(), filepath.Join(dir, early)); err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if b, err = b.Next.After(dir, 10, time.Now()); err != nil || len(b.Entries) != 1 {
		t.Errorf("%d lines of a log with an earlier name: %v", len(b.Entries), err)
	}
	if err := w.file.Close(); err != nil {
		t.Fatal(err)
	}
	b, err = b.Next.After(dir, 10, time.Now().Add(2*nameSlack))
	if err != nil || len(b.Next.Read) != 0 || b.Next.Done == "" {
		t.Errorf("later it is still kept: %+v, %v", b.Next, err)
	}
}

func TestAPositionIsWhereItsReaderIs(t *testing.T) {
	dir := t.TempDir()
	a, b := denials(t, dir, "a", 3), denials(t, dir, "b", 4)
	defer b.Close()
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	read, err := Position{}.After(dir, 100, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	names := []string{filepath.Base(a.Path()), filepath.Base(b.Path())}
	at := PositionAt(names, map[string]int64{names[1]: b.Stats().Bytes}, time.Now())
	if next, err := at.After(dir, 100, time.Now()); err != nil || len(next.Entries) != 0 {
		t.Errorf("%d lines after it: %v", len(next.Entries), err)
	}
	if at.Read[names[1]] != read.Next.Read[names[1]] || !reflect.DeepEqual(read.Next.Read[names[0]].Done, true) {
		t.Errorf("%+v, want %+v", at, read.Next)
	}
}

func TestALockedStateIsNobodyElses(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sub", "state.json")
	unlock, ok, err := LockState(path)
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	if _, ok, err := LockState(path); ok || err != nil {
		t.Errorf("taken twice: %v", err)
	}
	unlock()
	if unlock, ok, err = LockState(path); !ok || err != nil {
		t.Fatalf("not free again: %v", err)
	}
	unlock()
}

func TestLossesAreSaidByPlace(t *testing.T) {
	dir := t.TempDir()
	w := denials(t, dir, "a", 1)
	var sum event.Counts
	w.Observe(sum.Add)
	for where, n := range map[event.Loss]uint64{event.LossRate: 5, event.LossFull: 7} {
		if err := w.SayLost(n, where, "x"); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.SayLost(0, event.LossLog, "nothing"); err != nil {
		t.Fatal(err)
	}
	w.Lost(3, "somewhere")
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if want := map[event.Loss]uint64{event.LossRate: 5, event.LossFull: 7, event.LossLog: 3}; !reflect.DeepEqual(sum.Lost, want) || sum.Events != 3 {
		t.Errorf("lost %v in %d events, want %v in 3", sum.Lost, sum.Events, want)
	}
}
