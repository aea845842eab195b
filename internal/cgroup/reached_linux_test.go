package cgroup

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

// The kernel's own are in tests of whole sandboxes: here it is files that change.
func TestWhatLimitsStopIsToldByDifferences(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("memory.events", "oom_kill 1\n") // before anybody looked
	write("pids.events", "max 0\n")
	told := make(chan Reached, 10)
	w, err := WatchLimits(dir, func(r Reached) { told <- r })
	if err != nil {
		t.Fatal(err)
	}
	write("memory.events", "oom_kill 3\n")
	select {
	case got := <-told:
		if got != (Reached{Killed: 2}) {
			t.Errorf("%+v", got)
		}
	case <-time.After(time.Minute):
		t.Fatal("nothing is told")
	}
	write("pids.events", "max 7\n")
	w.End()
	w.End()
	close(told)
	var got Reached
	for r := range told {
		got.Refused += r.Refused
		got.Killed += r.Killed
	}
	if got != (Reached{Refused: 7}) {
		t.Errorf("at the end: %+v", got)
	}
	var none *Watch
	none.End()
}

func TestAGroupWithoutControllersStopsNothing(t *testing.T) {
	w, err := WatchLimits(t.TempDir(), func(r Reached) { t.Errorf("%+v", r) })
	if err != nil {
		t.Fatal(err)
	}
	w.End()
}
