package sallyport

import (
	"syscall"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/cgroup"
	"github.com/sallyport/sallyport/internal/event"
	"github.com/sallyport/sallyport/internal/policy"
)

func TestWhatALimitStopsIsAnEventWithItsRule(t *testing.T) {
	l := policy.Limits{Memory: 1 << 20, PIDs: 5, Time: time.Minute, Rules: map[string]policy.Rule{
		"limits.memory": {File: "p", Line: 1}, "limits.pids": {File: "p", Line: 2}, "limits.time": {File: "p", Line: 3}}}
	if got := reached(cgroup.Reached{}, l); len(got) != 0 {
		t.Errorf("of nothing: %+v", got)
	}
	got := reached(cgroup.Reached{Killed: 2, Refused: 3}, l)
	got = append(got, timeOver(time.Minute, nil, l), timeOver(time.Second, nil, l))
	for _, sig := range []syscall.Signal{syscall.SIGXCPU, syscall.SIGXFSZ} {
		e, ok := endedBy(int(sig))
		if !ok {
			t.Errorf("%s is no limit", sig)
		}
		got = append(got, e)
	}
	for i, want := range []struct {
		op    event.Operation
		ref   event.Text
		rule  string
		count uint64
		layer event.Layer
	}{
		{event.MemoryUse, "limits.memory", "p:1", 2, event.LayerCgroup}, {event.ProcCreate, "limits.pids", "p:2", 3, event.LayerCgroup},
		{event.TimeUse, "limits.time", "p:3", 1, event.LayerSupervisor}, {event.TimeUse, "limits.time", "builtin:timeout", 1, event.LayerSupervisor},
		{event.TimeUse, "RLIMIT_CPU", "builtin:rlimit", 1, event.LayerSupervisor}, {event.FileWrite, "RLIMIT_FSIZE", "builtin:rlimit", 1, event.LayerSupervisor},
	} {
		e := got[i]
		if e.Operation != want.op || e.Object.Ref != want.ref || e.Rule != want.rule || e.Count != want.count || e.Layer != want.layer ||
			e.Verdict != event.Deny || e.Reason != event.LimitExceeded || e.Time.IsZero() {
			t.Errorf("%+v, want %+v", e, want)
		}
	}
	for _, sig := range []syscall.Signal{0, syscall.SIGKILL, syscall.SIGTERM} {
		if _, ok := endedBy(int(sig)); ok {
			t.Errorf("%d is a limit", sig)
		}
	}
}
