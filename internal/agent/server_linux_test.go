package agent

import (
	"strings"
	"testing"

	"github.com/sallyport/sallyport/internal/event"
	"github.com/sallyport/sallyport/internal/process"
	"github.com/sallyport/sallyport/loader"
)

func TestAnOrdinaryUsersSandboxIsRecordedWhole(t *testing.T) {
	w := newWorld(t, Limits{})
	u, id := w.sandbox(4001)
	if r := u.do("refused", 3); r.Text != "3" {
		t.Fatalf("%s of 3 datagrams were refused", r.Text)
	}
	u.do("report", 2)
	if r := u.do("settle", 0); r.Left != 0 {
		t.Errorf("%d reports are not written", r.Left)
	}
	if r := u.do("end", 0); r.Ended != (Ended{}) {
		t.Errorf("ended: %+v", r.Ended)
	}
	seen := u.do("events", 0).Events
	if n := count(seen, isHook); n != 3 {
		t.Errorf("the user was handed %d denials, want 3: %+v", n, seen)
	}
	list := w.records()
	if n := count(list, func(e event.Event) bool {
		return isHook(e) && e.Reported == 0 && e.Process != nil && e.Process.UID == 4001
	}); n != 3 {
		t.Errorf("%d denials in the log, want 3: %+v", n, list)
	}
	reports := uint64(0)
	for _, e := range list {
		if e.Sandbox.ID != id || e.Sandbox.Tier < event.TierTrace || e.Sandbox.PolicySHA256 == "" {
			t.Errorf("an event of %+v", e.Sandbox)
		}
		if e.Layer == event.LayerProxy {
			reports++
			if e.Reported != reports || e.Process != nil {
				t.Errorf("report %d: %+v", reports, e)
			}
		}
	}
	if reports != 2 {
		t.Errorf("%d reports, want 2", reports)
	}
	if left := leftovers(t, w); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

func TestAUserWhoDiesTakesTheSandboxAlong(t *testing.T) {
	w := newWorld(t, Limits{})
	u, _ := w.sandbox(4001)
	u.do("refused", 1)
	u.kill()
	until(t, "the sandbox is gone", func() bool { return len(leftovers(t, w)) == 0 })
	if n := count(w.records(), isHook); n != 1 {
		t.Errorf("%d denials in the log, want 1", n)
	}
}

func TestWhatAnotherUserHasCannotBeSeenNorTouched(t *testing.T) {
	w := newWorld(t, Limits{})
	alice, id := w.sandbox(4001)
	alice.do("refused", 2)
	alice.do("report", 1)
	alice.do("settle", 0)
	bob, bobs := w.sandbox(4002)
	bob.do("refused", 1)
	pid := alice.do("events", 0).PID
	for name, o := range map[string]order{
		"her target":                {Op: "register", PID: pid},
		"her supervisor":            {Op: "register", PID: alice.cmd.Process.Pid},
		"process 1":                 {Op: "register", PID: 1},
		"himself":                   {Op: "register", PID: bob.cmd.Process.Pid},
		"a child of his":            {Op: "register", PID: bob.do("fork", 0).PID},
		"nobody":                    {Op: "register", PID: 1 << 22},
		"a negative":                {Op: "register", PID: -5},
		"his own again":             {Op: "register", PID: bob.do("events", 0).PID},
		"her sandbox, by attaching": {Op: "request", Text: `{"id":1,"attach":{"sandbox":"` + id + `"}}`},
	} {
		r := bob.try(o)
		if r.Err == "" && !strings.Contains(r.Text, "refusal") {
			t.Errorf("%s: registered or taken: %+v", name, r)
		}
	}
	until(t, "bob's denial is read", func() bool { return len(bob.do("events", 0).Events) > 0 })
	if s := bob.do("status", 0); s.Left != 1 || s.Text != "trace" && s.Text != "lsm" {
		t.Errorf("status: %+v", s)
	}
	logs := bob.do("logs", 0)
	if len(logs.Names) != 1 || !strings.HasSuffix(logs.Names[0], "-u4002.jsonl") {
		t.Errorf("bob is handed %q", logs.Names)
	}
	for _, e := range logs.Events {
		if e.Sandbox.ID != bobs {
			t.Errorf("bob sees an event of %q", e.Sandbox.ID)
		}
	}
	if n := count(logs.Events, isHook); n != 1 {
		t.Errorf("bob sees %d of his 1 denial", n)
	}
	if n := count(bob.do("events", 0).Events, func(event.Event) bool { return true }); n != 1 {
		t.Errorf("bob was handed %d events", n)
	}
	if r := alice.do("refused", 1); r.Text != "1" {
		t.Error("alice's sandbox is no more")
	}
	alice.do("end", 0)
	if n := count(alice.do("logs", 0).Events, isHook); n != 3 {
		t.Errorf("alice sees %d of her 3 denials", n)
	}
	root := w.user(0)
	names := root.do("logs", 0).Names
	if len(names) < 2 {
		t.Errorf("root is handed %q", names)
	}
	for _, name := range append(names, "", "../../owed", "/etc/shadow") {
		if r := bob.try(order{Op: "open", Text: name}); (r.Err == "") != (name == logs.Names[0]) {
			t.Errorf("bob opens %q: %q", name, r.Err)
		}
	}
}

func TestWhatWasStartedBeforeTheSandboxIsNotLeftOutOfIt(t *testing.T) {
	w := newWorld(t, Limits{})
	u := w.user(4001)
	u.do("early", 0)
	if r := u.try(order{Op: "register"}); !strings.Contains(r.Err, "has children already") {
		t.Errorf("registered: %+v", r)
	}
	// The same, had it been started while the agent looked.
	b, err := w.s.newBox(journal{ID: newID(), Boot: w.s.place.boot, UID: 4001, Own: []int{u.do("events", 0).PID}, Registration: Registration{Env: testEnv}})
	if err != nil {
		t.Fatal(err)
	}
	target, err := process.Open(b.Own[0])
	if err != nil {
		t.Fatal(err)
	}
	defer target.Close()
	if err := w.s.putUp(b, target); err != nil {
		t.Fatal(err)
	}
	if err := w.s.start(b); err == nil || !strings.Contains(err.Error(), "not in its cgroup") {
		t.Errorf("started: %v", err)
	}
	if err := w.s.takeDown(b); err != nil {
		t.Error(err)
	}
}

func TestWhatTheMountsRefuseIsRecorded(t *testing.T) {
	w := newWorld(t, Limits{})
	u, _ := w.sandbox(4001)
	u.try(order{Op: "hidden", N: 3, Text: "/root"})
	u.do("end", 0)
	isTrace := func(e event.Event) bool { return e.Layer == event.LayerTrace && e.Operation == event.FileRead }
	if n := count(w.records(), isTrace); n != 3 {
		t.Errorf("%d of 3 denials in the log: %+v", n, w.records())
	}
}

func TestASandboxWhoseCanaryDoesNotArriveIsNotStarted(t *testing.T) {
	w := newWorld(t, Limits{})
	u := w.user(4001)
	r := u.try(order{Op: "register", Canary: true})
	if r.Err != "" {
		t.Fatal(r.Err)
	}
	if r := u.try(order{Op: "start"}); !strings.Contains(r.Err, loader.ErrNoCanary.Error()) {
		t.Errorf("start without: %q", r.Err)
	}
	if r := u.try(order{Op: "make", Text: loader.CanaryPath("another")}); r.Text != "permission denied" {
		t.Errorf("make another folder: %s", r.Text)
	}
	if r := u.try(order{Op: "start"}); r.Err == "" {
		t.Error("started with another's")
	}
	u.try(order{Op: "make", Text: loader.CanaryPath(r.ID)})
	u.do("start", 0)
	u.do("refused", 2)
	u.try(order{Op: "make", Text: loader.CanaryPath(r.ID)}) // by now it is one like others
	u.do("end", 0)
	list := w.records()
	if n, lost := count(list, func(event.Event) bool { return true }), lostIn(list); n != 3 || lost != 0 {
		t.Errorf("%d recorded and %d lost, want the 3 that came after the start: %+v", n, lost, list)
	}
}

func TestASandboxThatWaitsForItsCanaryIsNotTakenOver(t *testing.T) {
	w := newWorld(t, Limits{})
	u := w.user(4001)
	if r := u.try(order{Op: "register", Canary: true}); r.Err != "" {
		t.Fatal(r.Err)
	}
	w.end()
	w.begin(Limits{})
	if r := u.try(order{Op: "start"}); r.Err == "" {
		t.Error("started by an agent that has seen nothing of it")
	}
	if left := leftovers(t, w); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}
