package audit

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/event"
)

// following runs Follow until the test ends; get waits for the next n results.
type following struct {
	t    *testing.T
	ch   chan Record
	errs chan error
	stop context.CancelFunc
	done chan struct{}
}

func follow(t *testing.T, dir string, f Filter) *following {
	ctx, stop := context.WithCancel(context.Background())
	fo := &following{t, make(chan Record, 10_000), make(chan error, 100), stop, make(chan struct{})}
	go func() {
		defer close(fo.done)
		for r, err := range Follow(ctx, dir, f) {
			if err != nil {
				fo.errs <- err
			} else {
				fo.ch <- r
			}
		}
	}()
	t.Cleanup(func() { stop(); <-fo.done })
	return fo
}

func (fo *following) get(n int) (records []Record) {
	fo.t.Helper()
	timeout := time.After(20 * time.Second)
	for len(records) < n {
		select {
		case r := <-fo.ch:
			records = append(records, r)
		case <-timeout:
			fo.t.Fatalf("%d of %d records came", len(records), n)
		}
	}
	return records
}

// quiet waits for two more looks and fails if they find something.
func (fo *following) quiet() {
	fo.t.Helper()
	select {
	case r := <-fo.ch:
		fo.t.Errorf("one too many: %s", r.Line)
	case err := <-fo.errs:
		fo.t.Errorf("error: %v", err)
	case <-time.After(2*followEvery + followEvery/2):
	}
}

func TestFollowMissesAndDoublesNothing(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "not", "there", "yet")
	fo := follow(t, dir, Filter{})
	fo.quiet()
	const writers, each = 6, 200
	var wg sync.WaitGroup
	for g := range writers {
		wg.Go(func() {
			time.Sleep(time.Duration(g) * 100 * time.Millisecond)
			w, err := Create(dir, Header{Sandbox: event.Sandbox{ID: fmt.Sprintf("w%d", g)}})
			if err != nil {
				t.Error(err)
				return
			}
			for i := range each {
				if err := w.Append(event.Event{Object: event.Object{Port: uint16(i)}}); err != nil {
					t.Error(err)
				}
				if i%10 == 0 {
					time.Sleep(20 * time.Millisecond)
				}
			}
			if err := w.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	next := map[string]int{}
	for _, r := range fo.get(writers * each) {
		if int(r.Object.Port) != next[r.Sandbox.ID] {
			t.Fatalf("sandbox %s: event %d came, %d was next", r.Sandbox.ID, r.Object.Port, next[r.Sandbox.ID])
		}
		next[r.Sandbox.ID]++
	}
	wg.Wait()
	fo.quiet()
	if open := openLogs(t, dir); open != 0 {
		t.Errorf("%d finished logs are still open", open)
	}
}

func TestFollowStartsWithTheEndOfHistory(t *testing.T) {
	t.Parallel()
	for limit, want := range map[int]string{0: "a0 a1 a2 b3", 2: "a2 b3", -1: ""} {
		dir := t.TempDir()
		writeLog(t, dir, "a", at(0), at(1), at(2))
		writeLog(t, dir, "b", at(3))
		fo := follow(t, dir, Filter{Limit: limit})
		n := map[int]int{0: 4, 2: 2}[limit]
		if got := order(fo.get(n)); got != want {
			t.Errorf("limit %d: history %q, want %q", limit, got, want)
		}
		fo.quiet()
		writeLog(t, dir, "c", at(4))
		if got := order(fo.get(1)); got != "c4" {
			t.Errorf("limit %d: then %q", limit, got)
		}
	}
}

func TestFollowSeesNewFilesInADirectoryLongUnchanged(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	writeLog(t, dir, "a", at(0))
	empty := filepath.Join(dir, "20261122T120001.000000000Z-e.jsonl")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	old := time.Now().Add(-time.Hour)
	if err := os.Chtimes(dir, old, old); err != nil {
		t.Fatal(err)
	}
	fo := follow(t, dir, Filter{})
	fo.get(1)
	fo.quiet()
	other := lines(t, writeLog(t, t.TempDir(), "e", at(1)))
	f, err := os.OpenFile(empty, os.O_WRONLY|os.O_APPEND, 0) // grows, which the directory does not show
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write(append(other[0], '\n')); err != nil {
		t.Fatal(err)
	}
	_ = f.Close()
	if got := order(fo.get(1)); got != "e1" {
		t.Errorf("the file that was empty gave %q", got)
	}
	if err := os.Chtimes(dir, old, old); err != nil {
		t.Fatal(err)
	}
	time.Sleep(2 * followEvery)
	writeLog(t, dir, "b", at(2))
	if got := order(fo.get(1)); got != "b2" {
		t.Errorf("the new file gave %q", got)
	}
}

func TestFollowDoesNotTrustACoarseClock(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	writeLog(t, dir, "a", at(0))
	now := time.Now()
	if err := os.Chtimes(dir, now, now); err != nil {
		t.Fatal(err)
	}
	fo := follow(t, dir, Filter{})
	fo.get(1)
	writeLog(t, dir, "b", at(1))
	if err := os.Chtimes(dir, now, now); err != nil { // a change in the same tick
		t.Fatal(err)
	}
	if got := order(fo.get(1)); got != "b1" {
		t.Errorf("the new file gave %q", got)
	}
}

func TestFollowWaitsForALineToBeWholeAndSurvivesItsRepair(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	w := create1(t, dir)
	if err := w.Append(at(0)); err != nil {
		t.Fatal(err)
	}
	fo := follow(t, dir, Filter{})
	fo.get(1)
	if _, err := w.file.Write([]byte(`{"schema":1,"seq":2,`)); err != nil { // the disk became full
		t.Fatal(err)
	}
	w.torn = true
	fo.quiet()
	if err := w.Append(at(1)); err != nil { // repairs
		t.Fatal(err)
	}
	if got := fo.get(1); got[0].Seq != 2 {
		t.Errorf("then came %s", got[0].Line)
	}
	fo.quiet()
}

func TestFollowReportsATornLineOnceItsWriterIsGone(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	w := create1(t, dir)
	if err := w.Append(at(0)); err != nil {
		t.Fatal(err)
	}
	fo := follow(t, dir, Filter{})
	fo.get(1)
	if _, err := w.file.Write([]byte(`{"sch`)); err != nil {
		t.Fatal(err)
	}
	fo.quiet()
	if err := w.file.Close(); err != nil { // as SIGKILL does
		t.Fatal(err)
	}
	select {
	case err := <-fo.errs:
		if !errors.Is(err, ErrTruncated) {
			t.Errorf("error: %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("the torn line was not reported")
	}
	fo.quiet()
}

func TestFollowReportsAFileThatShrank(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	w := create1(t, dir)
	for range 2 {
		if err := w.Append(at(0)); err != nil {
			t.Fatal(err)
		}
	}
	fo := follow(t, dir, Filter{})
	fo.get(2)
	if err := os.Truncate(w.Path(), 10); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-fo.errs:
		if !errors.Is(err, ErrChain) {
			t.Errorf("error: %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("the cut was not reported")
	}
	fo.quiet()
}

func TestFollowEndsWithItsContext(t *testing.T) {
	t.Parallel()
	fo := follow(t, t.TempDir(), Filter{})
	fo.stop()
	select {
	case <-fo.done:
	case <-time.After(10 * time.Second):
		t.Fatal("still following")
	}
}
