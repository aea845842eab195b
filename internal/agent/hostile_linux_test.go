package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/internal/cgroup"
	"github.com/sallyport/sallyport/internal/event"
	"github.com/sallyport/sallyport/internal/policy"
	"github.com/sallyport/sallyport/internal/process"
)

func TestOneUserCannotTakeMoreThanTheLimits(t *testing.T) {
	w := newWorld(t, Limits{Sandboxes: 2, EventsRate: 0.001, EventsBurst: 10})
	a, _ := w.sandbox(4001)
	w.sandbox(4001)
	third := w.user(4001)
	if r := third.try(order{Op: "register"}); !strings.Contains(r.Err, "which is the limit") {
		t.Errorf("a third sandbox: %+v", r)
	}
	b, bobs := w.sandbox(4002)
	a.do("report", 30)
	a.do("settle", 0)
	b.do("report", 5)
	b.do("settle", 0)
	a.do("end", 0)
	if r := third.try(order{Op: "register"}); r.Err != "" {
		t.Errorf("once there is room again: %+v", r)
	}
	w.end()
	list := w.records()
	told := count(list, func(e event.Event) bool { return e.Layer == event.LayerProxy && e.Sandbox.ID != bobs })
	if lost := lostIn(list); told != 10 || lost != 20 {
		t.Errorf("%d events and %d lost, want 10 and 20", told, lost)
	}
	if n := count(list, func(e event.Event) bool { return e.Sandbox.ID == bobs }); n != 5 {
		t.Errorf("%d events of the other user, want 5", n)
	}
	w.begin(Limits{LogBytes: 100})
	if r := w.user(4001).try(order{Op: "register"}); !strings.Contains(r.Err, "the log of user 4001 has reached") {
		t.Errorf("with a full log: %+v", r)
	}
}

func TestAPolicyThatCannotBeAppliedIsRefused(t *testing.T) {
	w := newWorld(t, Limits{})
	if r := w.user(4001).try(order{Op: "register", Policy: "network: {allowedDomains: [}"}); !strings.Contains(r.Err, "policy.yaml") {
		t.Errorf("a broken policy: %+v", r)
	}
}

func TestTheAdministratorsPolicyBindsTheSandboxesToCome(t *testing.T) {
	w := newWorld(t, Limits{})
	decide := func(id string) policy.Decision {
		t.Helper()
		w.s.mu.Lock()
		b := w.s.boxes[id]
		w.s.mu.Unlock()
		return w.s.policyOf(b).DecideFile(event.FileRead, "/srv/secret/x")
	}
	_, before := w.sandbox(4001)
	name := w.dir + "/policy.d/10-all.yaml"
	if err := errors.Join(os.MkdirAll(w.dir+"/policy.d", 0o755), os.WriteFile(name, []byte("filesystem: {denyRead: [/srv/secret]}"), 0o644)); err != nil {
		t.Fatal(err)
	}
	if err := w.s.Reload(); err != nil {
		t.Fatal(err)
	}
	_, after := w.sandbox(4002)
	if d := decide(after); d.Allowed() || d.Rule.String() != name+":1" {
		t.Errorf("below a ceiling: %+v", d)
	}
	if d := decide(before); !d.Allowed() {
		t.Errorf("a sandbox of before: %+v", d)
	}
	if err := os.WriteFile(name, []byte("filesystem: {denyRed: []}"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := w.s.Reload(); err == nil || !strings.Contains(err.Error(), "denyRed") {
		t.Errorf("a broken ceiling: %v", err)
	}
	// What it was when a sandbox began outlives the agent.
	if err := os.Remove(name); err != nil {
		t.Fatal(err)
	}
	w.end()
	w.begin(Limits{})
	if d := decide(after); d.Allowed() {
		t.Errorf("after a restart: %+v", d)
	}
}

func TestWhoIsInASandboxOrAContainerIsTurnedAway(t *testing.T) {
	w := newWorld(t, Limits{})
	u, _ := w.sandbox(4001)
	inside, err := process.Open(u.do("events", 0).PID)
	if err != nil {
		t.Fatal(err)
	}
	defer inside.Close()
	if err := w.s.check.Outside(inside); err == nil {
		t.Error("a process in namespaces of its own may ask")
	}
	sleep := exec.Command("/bin/sleep", "60")
	if err := sleep.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = sleep.Process.Kill(); _ = sleep.Wait() }()
	p, err := process.Open(sleep.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if err := w.s.check.Outside(p); err != nil {
		t.Errorf("an ordinary process: %v", err)
	}
	g, err := cgroup.Make(w.s.place.cgroup, "test")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = process.Evacuate(g); _ = g.Remove() }()
	if err := g.Place(p.PID, p.FD); err != nil {
		t.Fatal(err)
	}
	if err := w.s.check.Outside(p); err == nil {
		t.Error("a process in a sandbox's cgroup may ask")
	}
}

// reuse makes a process that has the number of one that ended; it gives the old
// one's descriptor.
func reuse(t *testing.T) (old *process.Process, now *exec.Cmd) {
	t.Helper()
	for range 100 {
		first := exec.Command("/bin/sleep", "60")
		if err := first.Start(); err != nil {
			t.Fatal(err)
		}
		old, err := process.Open(first.Process.Pid)
		if err != nil {
			t.Fatal(err)
		}
		_ = first.Process.Kill()
		_ = first.Wait() // killed
		next := exec.Command("/bin/sleep", "60")
		if err := os.WriteFile("/proc/sys/kernel/ns_last_pid", fmt.Append(nil, old.PID-1), 0); err != nil {
			t.Fatal(err)
		}
		if err := next.Start(); err != nil {
			t.Fatal(err)
		}
		if next.Process.Pid == old.PID {
			t.Cleanup(func() { old.Close(); _ = next.Process.Kill(); _ = next.Wait() })
			return old, next
		}
		_ = next.Process.Kill() // somebody else was faster
		_ = next.Wait()
		old.Close()
	}
	t.Fatal("no number was used again")
	return nil, nil
}

func cgroupOf(t *testing.T, pid int) string {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		t.Fatal(err)
	}
	path, err := process.CgroupPath(string(b))
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func TestANumberThatIsUsedAgainRegistersNobody(t *testing.T) {
	w := newWorld(t, Limits{})
	old, now := reuse(t)
	before := cgroupOf(t, old.PID)
	if err := w.s.check.Registrable(old, &process.Process{PID: os.Getpid()}, 0); err == nil {
		t.Error("a process that has ended may be registered")
	}
	b, err := w.s.newBox(journal{ID: newID(), Boot: w.s.place.boot, Registration: Registration{Env: testEnv}})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.s.putUp(b, old); !errors.Is(err, cgroup.ErrGone) {
		t.Errorf("placed: %v, want %v", err, cgroup.ErrGone)
	}
	if got := cgroupOf(t, old.PID); got != before {
		t.Errorf("its successor was moved to %s", got)
	}
	if err := now.Process.Signal(syscall.Signal(0)); err != nil {
		t.Errorf("its successor: %v", err)
	}
	if left := leftovers(t, w); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
	// Between the look and the move there is a moment: who got in is put back.
	g, err := cgroup.Make(w.s.place.cgroup, "race")
	if err != nil {
		t.Fatal(err)
	}
	if err := process.MoveTo(g.Dir, old.PID); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(process.Evacuate(g), g.Kill(time.Second), g.Remove()); err != nil {
		t.Error(err)
	}
	if got := cgroupOf(t, old.PID); got != cgroupOf(t, os.Getpid()) {
		t.Errorf("its successor is in %s, not where its parent is", got)
	}
	if err := now.Process.Signal(syscall.Signal(0)); err != nil {
		t.Errorf("its successor: %v", err)
	}
}

// requests are of every kind, whole.
func requests(pid int) []string {
	var out []string
	for _, r := range []request{
		{ID: 1, Status: &struct{}{}},
		{ID: 2, Register: &Registration{ID: "0123456789ab", Name: "x", PID: pid, Env: testEnv, Files: []PolicyFile{{Name: "p", Data: []byte("{}")}}}},
		{ID: 3, Attach: &attach{"0123456789ab"}},
		{ID: 4, Start: &struct{}{}},
		{ID: 6, Report: &report{Number: 1, Event: event.Event{Layer: event.LayerProxy}}},
		{ID: 7, End: &struct{}{}},
		{ID: 8, Logs: &logs{}},
	} {
		b, err := json.Marshal(r)
		if err != nil {
			panic(err)
		}
		out = append(out, string(b))
	}
	return out
}

func TestAPayloadThatIsHandedTheSocketCanDoNothing(t *testing.T) {
	w := newWorld(t, Limits{})
	for _, kind := range []string{"the sandbox's own", "a new one"} {
		t.Run(kind, func(t *testing.T) {
			u, id := w.sandbox(4001)
			n := 0
			if kind == "a new one" {
				n = 1
			}
			r := u.try(order{Op: "hand", N: n})
			if r.Err != "" {
				t.Fatal(r.Err)
			}
			if r.Text != "" {
				t.Errorf("the payload was answered %q", r.Text)
			}
			if r := u.do("refused", 1); r.Text != "1" {
				t.Error("the sandbox is no more")
			}
			u.do("report", 1)
			if r := u.do("settle", 0); r.Left != 0 {
				t.Error("the supervisor is not heard any more")
			}
			u.do("end", 0)
			tampered := count(w.records(), func(e event.Event) bool { return e.Reason == event.Tampered && e.Sandbox.ID == id })
			if want := uint64(1 - n); tampered != want {
				t.Errorf("%d records of it, want %d", tampered, want)
			}
		})
	}
}

func TestDescriptorsAreNotTaken(t *testing.T) {
	w := newWorld(t, Limits{})
	before := descriptors(t)
	for range 20 {
		l, err := dial(w.socket, func(message) {})
		if err != nil {
			t.Fatal(err)
		}
		null, err := os.Open(os.DevNull)
		if err != nil {
			t.Fatal(err)
		}
		packet := append([]byte{packetLast}, requests(1)[0]...)
		_, _, err = l.conn.WriteMsgUnix(packet, unix.UnixRights(int(null.Fd()), int(null.Fd())), nil)
		null.Close()
		if err != nil {
			t.Fatal(err)
		}
		<-l.ended
		if l.err == nil || !strings.Contains(l.err.Error(), errDescriptors.Error()) {
			t.Errorf("answered %v", l.err)
		}
	}
	until(t, "the descriptors are closed", func() bool { return descriptors(t) <= before })
}

func descriptors(t *testing.T) int {
	t.Helper()
	list, err := filepath.Glob("/proc/self/fd/*")
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}

// hostileFor is how long the socket is attacked; AGENT_TEST_HOSTILE lengthens it.
func hostileFor() time.Duration {
	if d, err := time.ParseDuration(os.Getenv("AGENT_TEST_HOSTILE")); err == nil {
		return d
	}
	return 2 * time.Second
}

func TestAHostileClientDisturbsNobody(t *testing.T) {
	w := newWorld(t, Limits{})
	good, id := w.sandbox(4001)
	before, goroutines := descriptors(t), runtime.NumGoroutine()
	var bad []*user
	for i := range 3 {
		bad = append(bad, w.user(4100+i))
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 1))
	reports := 0
	for end := time.Now().Add(hostileFor()); time.Now().Before(end); {
		u := bad[rnd.IntN(len(bad))]
		r := u.try(order{Op: "attack", N: rnd.Int(), Text: strings.Join(mutate(rnd, requests(good.cmd.Process.Pid)), "\n")})
		for _, forbidden := range []string{`"sandbox":{`, id} {
			if strings.Contains(r.Text, forbidden) {
				t.Fatalf("a hostile client was answered %q", r.Text)
			}
		}
		good.do("report", 1)
		reports++
	}
	if r := good.do("settle", 0); r.Left != 0 {
		t.Errorf("%d reports are not written", r.Left)
	}
	good.do("refused", 1)
	for _, u := range bad {
		u.kill()
	}
	until(t, "the connections are gone", func() bool { return descriptors(t) <= before+6 && runtime.NumGoroutine() <= goroutines })
	good.do("end", 0)
	checkReports(t, w.records(), id, reports)
	if left := leftovers(t, w); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
	for _, text := range w.warnings {
		if strings.Contains(text, "given up") {
			t.Error(text)
		}
	}
}

// mutate makes packets that are nearly right.
func mutate(rnd *rand.Rand, list []string) (out []string) {
	for range 1 + rnd.IntN(6) {
		b := []byte(list[rnd.IntN(len(list))])
		switch rnd.IntN(5) {
		case 0:
			b = b[:rnd.IntN(len(b))]
		case 1:
			b[rnd.IntN(len(b))] = byte(rnd.Uint32())
		case 2:
			b = append(b, list[rnd.IntN(len(list))]...)
		case 3:
			b = []byte(strings.Repeat("[", 1+rnd.IntN(30000)))
		}
		kind := byte(rnd.IntN(3))
		if rnd.IntN(2) == 0 {
			kind = packetLast
		}
		out = append(out, strings.ReplaceAll(string(append([]byte{kind}, b...)), "\n", " "))
	}
	return out
}
