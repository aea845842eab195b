package sallyport

import (
	"fmt"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/internal/cgroup"
	"github.com/sallyport/sallyport/internal/event"
	"github.com/sallyport/sallyport/internal/policy"
)

// watchLimits records what the limits stop. Whoever made the cgroup, this
// process can read what the kernel counts there.
func (r *run) watchLimits() error {
	l := r.prep.policy.Limits()
	if l.Memory == 0 && l.PIDs == 0 {
		return nil
	}
	pid, root, err := r.box.Root()
	if err != nil {
		return err
	}
	root.Close()
	dir, err := cgroup.Of(pid)
	if err != nil {
		return err
	}
	r.limits, err = cgroup.WatchLimits(dir, func(n cgroup.Reached) {
		for _, e := range reached(n, l) {
			r.record(e)
		}
	})
	return err
}

// reached makes events of what a cgroup's limits have stopped.
func reached(n cgroup.Reached, l policy.Limits) (events []event.Event) {
	if n.Killed > 0 {
		e := stopped(event.MemoryUse, "limits.memory", l, n.Killed)
		e.Detail = event.Text(fmt.Sprintf("processes that the kernel killed, because all together wanted more than %d bytes: %d", l.Memory, n.Killed))
		events = append(events, e)
	}
	if n.Refused > 0 {
		e := stopped(event.ProcCreate, "limits.pids", l, n.Refused)
		e.Errno = "EAGAIN"
		events = append(events, e)
	}
	return events
}

// timeOver is the denial of more time; p is the command.
func timeOver(limit time.Duration, p *event.Process, l policy.Limits) event.Event {
	e := stopped(event.TimeUse, "limits.time", l, 1)
	e.Layer, e.Process = event.LayerSupervisor, p
	if limit != l.Time {
		e.Rule = "builtin:timeout"
	}
	e.Detail = event.Text("it had not ended after " + limit.String())
	return e
}

// endedBy makes an event of the signal that ended the command, if a limit of its
// own sent it.
func endedBy(signal int) (e event.Event, ok bool) {
	switch syscall.Signal(signal) {
	case unix.SIGXCPU:
		e = stopped(event.TimeUse, "RLIMIT_CPU", policy.Limits{}, 1)
	case unix.SIGXFSZ:
		e = stopped(event.FileWrite, "RLIMIT_FSIZE", policy.Limits{}, 1)
	default:
		return e, false
	}
	e.Detail = event.Text("it ended the command: " + unix.SignalName(syscall.Signal(signal)))
	return e, true
}

// stopped is the denial of a limit: of the policy's, or of the process's own
// (getrlimit(2)), which it inherited.
func stopped(op event.Operation, what string, l policy.Limits, n uint64) event.Event {
	now := time.Now()
	e := event.Event{Verdict: event.Deny, Layer: event.LayerSupervisor, Operation: op, Reason: event.LimitExceeded,
		Object: event.Object{Ref: event.Text(what)}, Rule: "builtin:rlimit", Count: n, First: now, Last: now, Time: now}
	if rule, ok := l.Rules[what]; ok {
		e.Layer, e.Rule = event.LayerCgroup, rule.String()
	}
	return e
}
