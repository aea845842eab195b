package sallyport

import (
	"fmt"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/event"
)

func fileDenial(execID string, op event.Operation, path string, n uint64) event.Event {
	return event.Event{Operation: op, Object: event.Object{Path: event.Text(path)}, Count: n,
		Process: &event.Process{PID: 7, ExecID: execID}, Reason: event.PathReadOnly}
}

func sum(events []event.Event) (n uint64) {
	for _, e := range events {
		n += e.Count
	}
	return n
}

func TestAFloodBecomesFewEventsThatCountEveryAttempt(t *testing.T) {
	th := newThrottle()
	now := time.Unix(1_000_000, 0)
	var out []event.Event
	for i := range 200_000 { // 100 000 a second
		now = now.Add(10 * time.Microsecond)
		out = append(out, th.pass(fileDenial("7:1", event.FileCreate, fmt.Sprint("/etc/", i), 1), now)...)
	}
	out = append(out, th.flush()...)
	if n := sum(out); n != 200_000 {
		t.Errorf("the events stand for %d attempts of 200000", n)
	}
	if len(out) > throttleBurst+2*throttleRate+10 {
		t.Errorf("%d events", len(out))
	}
	last := out[len(out)-1]
	if last.Object != (event.Object{}) || last.Detail == "" || last.Process == nil || last.Process.ExecID != "7:1" {
		t.Errorf("what is held back says %+v", last)
	}
}

func TestTheFirstOfEachKindPassesAFlood(t *testing.T) {
	th := newThrottle()
	now := time.Unix(1_000_000, 0)
	for i := range 50_000 {
		th.pass(fileDenial("7:1", event.FileCreate, fmt.Sprint("/etc/", i), 1), now)
	}
	for _, e := range []event.Event{fileDenial("7:1", event.FileDelete, "/etc/passwd", 1), fileDenial("8:1", event.FileCreate, "/etc/new", 1)} {
		out := th.pass(e, now)
		if len(out) != 1 || out[0].Object != e.Object {
			t.Errorf("%s by %s: recorded %+v", e.Operation, e.Process.ExecID, out)
		}
	}
}

func TestWhatIsHeldBackIsToldWithinItsWindow(t *testing.T) {
	th := newThrottle()
	now := time.Unix(1_000_000, 0)
	for i := range throttleBurst + 100 {
		th.pass(fileDenial("7:1", event.FileCreate, fmt.Sprint(i), 1), now)
	}
	if out := th.tick(now.Add(throttleWindow - 1)); out != nil {
		t.Errorf("too early: %v", out)
	}
	if out := th.tick(now.Add(throttleWindow)); len(out) != 1 || out[0].Count != 100 {
		t.Errorf("held back: %+v", out)
	}
	if out := th.flush(); out != nil {
		t.Errorf("told twice: %+v", out)
	}
}

func TestMoreKindsThanAreToldApartAreStillCounted(t *testing.T) {
	th := newThrottle()
	now := time.Unix(1_000_000, 0)
	var out []event.Event
	const n = 3 * throttleKinds
	for i := range n {
		out = append(out, th.pass(fileDenial(fmt.Sprint(i, ":1"), event.FileCreate, "/etc/x", 2), now)...)
	}
	out = append(out, th.flush()...)
	if got := sum(out); got != 2*n {
		t.Errorf("%d attempts of %d", got, 2*n)
	}
	if len(th.kinds) > throttleKinds+8 {
		t.Errorf("%d kinds are kept", len(th.kinds))
	}
}
