package agent

import (
	"fmt"
	"net"
	"net/http/httptest"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"testing"

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
	rec := httptest.NewRecorder()
	w.s.Metrics().Handler.ServeHTTP(rec, httptest.NewRequest("GET", "/metrics", nil))
	text := rec.Body.String()
	list := w.records()
	hooks := count(list, isHook)
	if hooks+count(list, func(e event.Event) bool { return e.Layer == event.LayerProxy }) != 5 {
		t.Errorf("events: %+v", list)
	}
	for _, want := range []string{
		"sallyport_sandbox_starts_total 1\n", "sallyport_sandboxes 0\n", "sallyport_events_total 5\n",
		`sallyport_events_lost_total{where="rate"} 2` + "\n", `sallyport_enforcement_tier{tier="trace"} 1` + "\n",
		fmt.Sprintf(`sallyport_denials_total{layer="cgroup",operation="net.udp",reason="protocol-denied"} %d`, hooks) + "\n",
		fmt.Sprintf(`sallyport_denials_total{layer="proxy",operation="net.connect",reason="not-allowed"} %d`, 5-hooks) + "\n",
	} {
		if !strings.Contains(text, want) && !strings.HasSuffix(want, "} 0\n") {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	rec = httptest.NewRecorder()
	w.s.Metrics().Handler.ServeHTTP(rec, httptest.NewRequest("POST", "/metrics", nil))
	if rec.Code != 405 {
		t.Errorf("POST: %d", rec.Code)
	}
}
