package agent

import (
	"fmt"
	"os"
	"slices"
	"syscall"
	"testing"

	"github.com/sallyport/sallyport/internal/event"
)

// lostIn sums what a log says to be lost.
func lostIn(list []event.Event) (n uint64) {
	for _, e := range list {
		n += e.LostSinceLast
	}
	return n
}

// checkReports fails unless each report from 1 to n is in the log once, in order.
func checkReports(t *testing.T, list []event.Event, id string, n int) {
	t.Helper()
	var got []uint64
	for _, e := range list {
		if e.Sandbox.ID == id && e.Reported > 0 {
			got = append(got, e.Reported)
		}
	}
	var want []uint64
	for i := range n {
		want = append(want, uint64(i+1))
	}
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("reports %v, want 1 to %d, each once", got, n)
	}
}

func TestAKilledAgentLosesNothingUnsaid(t *testing.T) {
	w, a := processWorld(t)
	u, id := w.sandbox(4001)
	made, reports := 0, 0
	load := func(rounds int) {
		for i := range rounds {
			n := 1 + i%40
			if r := u.do("refused", n); r.Text != fmt.Sprint(n) {
				t.Fatalf("%s of %d datagrams were refused", r.Text, n)
			}
			made += n
			if i%10 == 0 {
				u.do("report", 5)
				reports += 5
			}
		}
	}
	const kills = 3
	for range kills {
		load(30)
		if err := a.Process.Kill(); err != nil { // with events on their way
			t.Fatal(err)
		}
		_ = a.Wait() // killed
		load(30)     // enforced as before, with nobody there
		a = w.process()
		before := u.do("events", 0).Returns
		until(t, "the user is back", func() bool { return u.do("events", 0).Returns > before || before > 0 })
		load(5)
	}
	if r := u.do("settle", 0); r.Left != 0 {
		t.Errorf("%d reports are not written", r.Left)
	}
	ended := u.do("end", 0).Ended
	list := w.records()
	told, lost := count(list, func(e event.Event) bool { return isHook(e) && e.Sandbox.ID == id }), lostIn(list)
	// One that was written when the agent was killed, but not yet noted as told, is
	// counted as lost, too.
	if told > uint64(made) || told+lost < uint64(made) || told+lost > uint64(made)+kills {
		t.Errorf("%d told and %d lost of %d", told, lost, made)
	}
	if told < uint64(made)/2 {
		t.Errorf("only %d of %d are recorded", told, made)
	}
	checkReports(t, list, id, reports)
	t.Logf("%d made, %d told, %d lost; ended: %+v", made, told, lost, ended)
	if left := leftovers(t, w); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

func TestAnAgentThatEndsLeavesItsSandboxesToTheNext(t *testing.T) {
	w := newWorld(t, Limits{})
	u, id := w.sandbox(4001)
	u.do("refused", 2)
	u.do("report", 2)
	w.end()
	if r := u.do("refused", 2); r.Text != "2" {
		t.Errorf("%s of 2 refused with no agent", r.Text)
	}
	u.do("report", 2)
	if r := u.try(order{Op: "process"}); len(r.Processes) > 0 {
		t.Errorf("processes of nobody: %+v", r.Processes)
	}
	w.begin(Limits{})
	until(t, "the user is back", func() bool { return u.do("events", 0).Returns == 1 })
	if n := w.s.status(4001).Sandboxes; n != 1 {
		t.Errorf("the user has %d sandboxes, want 1", n)
	}
	u.do("refused", 2)
	u.do("report", 2)
	u.do("settle", 0)
	u.do("end", 0)
	list := w.records()
	if told, lost := count(list, isHook), lostIn(list); told != 6 || lost != 0 {
		t.Errorf("%d told and %d lost of 6", told, lost)
	}
	checkReports(t, list, id, 6)
	if left := leftovers(t, w); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

func TestWhoDiesWhileTheAgentIsAwayIsSweptByTheNext(t *testing.T) {
	w := newWorld(t, Limits{})
	gone, goneID := w.sandbox(4001)
	later, _ := w.sandbox(4002)
	w.end()
	gone.do("refused", 3)
	gone.kill()
	stray := w.dir + "/state/sandboxes/0123456789ab.json"
	if err := os.WriteFile(stray, []byte(`{"id":"0123456789ab","boot":"another"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	w.begin(Limits{})
	if left := leftovers(t, w); len(left) != 2 { // later's cgroup and journal
		t.Errorf("there is %q", left)
	}
	if n := count(w.records(), func(e event.Event) bool { return isHook(e) && e.Sandbox.ID == goneID }); n != 3 {
		t.Errorf("%d of 3 denials of the dead are in the log", n)
	}
	later.kill()
	until(t, "the other is gone, too", func() bool { return len(leftovers(t, w)) == 0 })
}

func TestTwoAgentsDoNotShareAStateDirectory(t *testing.T) {
	w := newWorld(t, Limits{})
	if s, err := New(w.options(Limits{})); err == nil {
		s.Close()
		t.Error("a second agent started")
	}
	if err := Remove(w.state()); err == nil {
		t.Error("removed what an agent is using")
	}
	other := newWorld(t, Limits{})
	a, _ := w.sandbox(4001)
	b, _ := other.sandbox(4001)
	a.do("refused", 1)
	b.do("refused", 2)
	a.do("end", 0)
	b.do("end", 0)
	if n, m := count(w.records(), isHook), count(other.records(), isHook); n != 1 || m != 2 {
		t.Errorf("the agents recorded %d and %d denials, want 1 and 2", n, m)
	}
}

func TestAnAgentKeepsOnlyTheCapabilitiesItNeeds(t *testing.T) {
	w, a := processWorld(t)
	threads, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", a.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	var mask uint64
	for _, c := range kept {
		mask |= 1 << c
	}
	for _, th := range threads {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/status", a.Process.Pid, th.Name()))
		if err != nil {
			t.Fatal(err)
		}
		for _, set := range []string{"CapPrm", "CapEff", "CapBnd"} {
			if got := field(string(b), set); got != fmt.Sprintf("%016x", mask) {
				t.Errorf("thread %s: %s is %s, want %016x", th.Name(), set, got, mask)
			}
		}
		if field(string(b), "NoNewPrivs") != "1" {
			t.Errorf("thread %s may gain privileges", th.Name())
		}
	}
	u, _ := w.sandbox(4001) // and they are enough
	u.do("refused", 1)
	u.do("end", 0)
	if err := a.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := a.Wait(); err != nil {
		t.Errorf("SIGTERM: %v", err)
	}
	if n := count(w.records(), isHook); n != 1 {
		t.Errorf("%d denials in the log, want 1", n)
	}
}
