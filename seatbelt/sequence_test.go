package seatbelt

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

func newSequence() (*sequence, func() []uint64) {
	var got []uint64
	s := &sequence{timer: time.NewTimer(time.Hour)} // no tick of its own
	s.emit = func(r Record, _ Violation, _ Attribution) { got = append(got, r.Mach) }
	return s, func() []uint64 { return got }
}

func TestRecordsGoOnInTheOrderOfTheKernelsClock(t *testing.T) {
	s, got := newSequence()
	begin := time.Now()
	const n = 2000
	order := make([]uint64, n)
	for i := range order {
		order[i] = uint64(i + 1)
	}
	for part := range slices.Chunk(order, 20) { // out of order, but not far
		rand.Shuffle(len(part), func(i, k int) { part[i], part[k] = part[k], part[i] })
	}
	for i, mach := range order {
		now := begin.Add(time.Duration(i) * time.Millisecond)
		s.add(Record{Mach: mach}, Violation{}, ByTag, now)
		s.mu.Lock()
		s.release(s.ripe(now))
		s.mu.Unlock()
	}
	if early := len(got()); early < n-200 {
		t.Errorf("only %d of %d went on before the end", early, n)
	}
	s.flush()
	if !slices.IsSorted(got()) || len(got()) != n {
		t.Errorf("%d records, in order: %v", len(got()), slices.IsSorted(got()))
	}
}

func TestARecordWithoutAClockStaysWhereItCame(t *testing.T) {
	s, got := newSequence()
	for _, mach := range []uint64{5, 0, 9, 7} {
		s.add(Record{Mach: mach}, Violation{}, ByTag, time.Now())
	}
	s.flush()
	if want := []uint64{5, 0, 7, 9}; !slices.Equal(got(), want) {
		t.Errorf("%v, want %v", got(), want)
	}
}

func TestABurstIsHeldOnlySoFar(t *testing.T) {
	s, got := newSequence()
	for i := range 3 * holdMost {
		s.add(Record{Mach: uint64(i + 1)}, Violation{}, ByTag, time.Now())
	}
	if len(s.held) > holdMost || len(s.held)+len(got()) != 3*holdMost || !slices.IsSorted(got()) {
		t.Errorf("%d held, %d gone on", len(s.held), len(got()))
	}
}

func TestStreamGivesRecordsInTheirOrder(t *testing.T) {
	f := newFakes(t, "")
	s, c := mustStart(t, f)
	var lines, want []string
	for i := range 10 {
		lines = append(lines, denied(i+1, "file-read-data", fmt.Sprint("/", i), testTag))
		want = append(want, fmt.Sprintf("1 file-read-data /%d tag", i))
	}
	slices.Reverse(lines)
	f.report(lines...)
	waitFor(t, func() bool { return len(c.list()) == 10 }) // none waits for the end
	s.Stop()
	if got := c.list(); !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
}
