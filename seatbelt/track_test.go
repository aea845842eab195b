package seatbelt

import (
	"fmt"
	"testing"
)

func TestTrackerFollowsFamiliesAndNotNumbers(t *testing.T) {
	tr := NewTracker(Proc{PID: 10})
	tr.Update([]Proc{{1, 0, 1}, {10, 5, 100}, {11, 10, 101}, {12, 11, 102}, {13, 1, 103}})
	for pid, want := range map[int]bool{1: false, 10: true, 11: true, 12: true, 13: false} {
		if tr.Owns(pid) != want {
			t.Errorf("%d: %v", pid, !want)
		}
	}
	// 11 has ended; 12, whose parent is now 1, stays known. 13 is somebody's,
	// and so is a new process with the number of 11.
	all := []Proc{{1, 0, 1}, {10, 5, 100}, {12, 1, 102}, {11, 1, 200}, {14, 12, 201}, {15, 11, 202}}
	if got := fmt.Sprint(tr.Left(all)); got != "[{10 5 100} {12 1 102} {14 12 201}]" {
		t.Errorf("left %s", got)
	}
	if !tr.Owns(11) {
		t.Error("what the log says of an ended process is lost")
	}
	// The number of an ended process, taken by a child of the run.
	tr.Update([]Proc{{12, 1, 102}, {11, 12, 300}})
	if got := fmt.Sprint(tr.Left([]Proc{{11, 12, 300}})); got != "[{11 12 300}]" {
		t.Errorf("left %s", got)
	}
	if left := tr.Left([]Proc{{10, 1, 999}}); len(left) != 0 {
		t.Errorf("a stranger with the number of the command is left: %v", left)
	}
}

func TestTrackerNeverLosesWhatRuns(t *testing.T) {
	tr := NewTracker(Proc{PID: 1 << 20})
	root := Proc{1 << 20, 1, 7}
	for round := range 5 {
		all := []Proc{root}
		for i := range maxTracked / 2 {
			all = append(all, Proc{1 + round*maxTracked + i, root.PID, int64(round)})
		}
		if left := tr.Left(all); len(left) != len(all) {
			t.Fatalf("round %d: %d of %d are known", round, len(left), len(all))
		}
		if len(tr.known) > 2*maxTracked {
			t.Fatalf("%d processes are remembered", len(tr.known))
		}
	}
}
