package agent

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/event"
	"github.com/sallyport/sallyport/internal/process"
	"github.com/sallyport/sallyport/loader"
)

// rss is the resident memory of a process, in kB.
func rss(t testing.TB, pid int) int {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(strings.TrimSuffix(field(string(b), "VmRSS"), " kB"))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func TestTwoHundredSandboxesAtOnceTakeLittleAndLeaveNothing(t *testing.T) {
	w, a := processWorld(t)
	idle, before := rss(t, a.Process.Pid), len(must(os.ReadDir(fmt.Sprintf("/proc/%d/fd", a.Process.Pid))))
	users := make([]*user, 4)
	for i := range users {
		users[i] = w.user(4001 + i)
		users[i].do("many", 50)
		if n := users[i].do("status", 0).Left; n != 50 {
			t.Errorf("user %d has %d sandboxes", 4001+i, n)
		}
	}
	one, _ := w.sandbox(4010)
	one.do("refused", 10)
	full := rss(t, a.Process.Pid)
	t.Logf("the agent takes %d kB idle, %d kB with 201 sandboxes", idle, full)
	if full > 40<<10 {
		t.Errorf("the agent takes %d kB, want 40 MB at most", full)
	}
	one.do("end", 0)
	for _, u := range users {
		u.kill()
	}
	until(t, "all are gone", func() bool { return len(leftovers(t, w)) == 0 })
	if fds := len(must(os.ReadDir(fmt.Sprintf("/proc/%d/fd", a.Process.Pid)))); fds > before+20 { // users' logs are kept open
		t.Errorf("%d descriptors are open, %d before", fds, before)
	}
	if n := count(w.records(), isHook); n != 10 {
		t.Errorf("%d of 10 denials are in the log", n)
	}
}

// BenchmarkMemory is what an agent takes by itself, and with 200 sandboxes.
func BenchmarkMemory(b *testing.B) {
	w, a := processWorld(b)
	b.ReportMetric(float64(rss(b, a.Process.Pid)), "kB-idle")
	for i := range 4 {
		w.user(4001+i).do("many", 50)
	}
	b.ReportMetric(float64(rss(b, a.Process.Pid)), "kB-of-200")
	b.ReportMetric(0, "ns/op")
}

func TestTheProcessBehindAConnectionIsNamed(t *testing.T) {
	w := newWorld(t, Limits{})
	l, err := net.Listen("tcp", "127.53.7.9:53") // on this host only resolvers' ports are kept in mind
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	u, _ := w.sandbox(4001)
	to := netip.MustParseAddrPort(l.Addr().String())
	r := u.try(order{Op: "hold", Text: to.String()})
	from, err := netip.ParseAddrPort(r.Text)
	if err != nil {
		t.Fatalf("connect: %s", r.Text)
	}
	c := loader.Connection{From: from, To: to}
	p := u.try(order{Op: "process", Conn: c}).Processes
	if len(p) != 1 || p[0].UID != 4001 {
		t.Fatalf("the agent says %+v, want one process of user 4001", p)
	}
	if parent, err := process.Parent(p[0].PID); err != nil || parent != r.PID {
		t.Errorf("the agent says %+v, whose parent is %d, want a child of %d", p, parent, r.PID)
	}
	other, _ := w.sandbox(4002)
	if p := other.try(order{Op: "process", Conn: c}).Processes; len(p) != 0 {
		t.Errorf("another sandbox is told of %+v", p)
	}
}

func TestWhatIsExposedIsWhatIsInTheLog(t *testing.T) {
	w := newWorld(t, Limits{EventsRate: 0.001, EventsBurst: 5})
	u, _ := w.sandbox(4001)
	u.do("refused", 3)
	u.do("report", 4)
	u.do("settle", 0)
	u.do("end", 0)
	w.s.tick(time.Now()) // says what was lost
	f := w.s.Figures()
	list := w.records()
	hooks := count(list, isHook)
	if hooks+count(list, func(e event.Event) bool { return e.Layer == event.LayerProxy }) != 5 {
		t.Errorf("events: %+v", list)
	}
	if n := f.Traffic.Starts[event.Started]; n != 1 || f.Sandboxes != 0 || f.Tier < event.TierTrace || len(f.Programs) == 0 || f.Maps["procs"].Capacity == 0 {
		t.Errorf("figures %+v", f)
	}
	if f.Counts.Lost[event.LossRate] != 2 {
		t.Errorf("lost %v", f.Counts.Lost)
	}
	w.countsEqualTheLog(f.Counts)
}

// countsEqualTheLog adds up the whole log and compares.
func (w *world) countsEqualTheLog(got event.Counts) {
	w.t.Helper()
	var want event.Counts
	for _, e := range w.records() {
		want.Add(&e)
	}
	if !reflect.DeepEqual(got, want.Clone()) {
		w.t.Errorf("counted\n%+v, in the log are\n%+v", got, want)
	}
}

func TestCountsGoOnInASuccessorEvenWithoutTheLedger(t *testing.T) {
	w := newWorld(t, Limits{EventsRate: 0.001, EventsBurst: 20})
	u, _ := w.sandbox(4001)
	u.do("refused", 5)
	u.do("report", 30) // some of them are too many
	u.do("settle", 0)
	u.do("end", 0)
	w.s.tick(time.Now())
	before := w.s.Figures().Counts
	for _, lost := range []bool{false, true} {
		w.end()
		if lost {
			if err := os.Remove(w.state() + "/ledger.json"); err != nil {
				t.Fatal(err)
			}
		}
		w.begin(Limits{})
		w.countsEqualTheLog(w.s.Figures().Counts)
	}
	if after := w.s.Figures().Counts; before.Lost[event.LossRate] == 0 || after.Events < before.Events || after.Lost[event.LossRate] != before.Lost[event.LossRate] {
		t.Errorf("before %+v, after %+v", before, after)
	}
}

func TestALogThatWasChangedIsCounted(t *testing.T) {
	w := newWorld(t, Limits{})
	u, _ := w.sandbox(4001)
	u.do("report", 5)
	u.do("settle", 0)
	w.s.verify(t.Context())
	if n := w.s.Figures().Damaged; n != 0 {
		t.Fatalf("%d logs are damaged", n)
	}
	names := must(w.s.logs.names(userLog(4001)))
	path := w.state() + "/audit/" + names[0]
	b := must(os.ReadFile(path))
	if err := os.WriteFile(path, []byte(strings.Replace(string(b), `"port":443`, `"port":444`, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	w.s.verify(t.Context())
	if n := w.s.Figures().Damaged; n != 1 {
		t.Errorf("%d logs are damaged, want 1", n)
	}
}

func TestTheTrafficThatUsersReportIsAddedUp(t *testing.T) {
	w := newWorld(t, Limits{})
	a, _ := w.sandbox(4001)
	b, _ := w.sandbox(4002)
	a.do("traffic", 3)
	b.do("traffic", 4)
	b.do("traffic", 2)
	until(t, "it is there", func() bool { return w.s.Figures().Traffic.BytesIn == 9 })
	if tr := w.s.Figures().Traffic; tr.Open != 5 || tr.Starts[event.Started] != 2 {
		t.Errorf("traffic %+v", tr)
	}
	b.do("end", 0)
	if tr := w.s.Figures().Traffic; tr.Open != 3 || tr.BytesIn != 9 {
		t.Errorf("after the end of one: %+v", tr)
	}
	w.user(4003).try(order{Op: "register", PID: 1})
	if tr := w.s.Figures().Traffic; tr.Starts[event.StartRefused] != 1 {
		t.Errorf("starts %v", tr.Starts)
	}
}

func TestWordsThatAreNoneChangeNoCount(t *testing.T) {
	w := newWorld(t, Limits{})
	before := w.s.Figures()
	for _, what := range []string{`"report":{"number":1,"event":{"layer":"evil","operation":"net.connect","reason":"not-allowed","verdict":"deny"}}`,
		`"report":{"number":1,"event":{"layer":"proxy","operation":"\u001b[2J","reason":"not-allowed","verdict":"deny"}}`,
		`"report":{"number":1,"event":{"layer":"proxy","operation":"net.connect","reason":"a\"} 1","verdict":"deny"}}`,
		`"traffic":{"upstream":{"evil":1}}`, `"traffic":{"starts":{"evil":1}}`, `"traffic":{"bytes_in":-1}`, `"traffic":{"bytes_in":1e99}`} {
		u, _ := w.sandbox(4001)
		r := u.try(order{Op: "request", Text: `{"id":1,` + what + `}`})
		if !strings.Contains(r.Text, "decode request: ") {
			t.Errorf("%s: %q %s", what, r.Text, r.Err)
		}
		u.do("end", 0)
	}
	after := w.s.Figures()
	if !reflect.DeepEqual(after.Counts, before.Counts) || after.Traffic.BytesIn != 0 || len(after.Traffic.Upstream) != 0 {
		t.Errorf("before %+v, after %+v", before, after)
	}
}
