package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/internal/event"
)

// machine is an agent of a test's own.
type machine struct {
	t           *testing.T
	dir, socket string
	cmd         *exec.Cmd
	flags       []string // more of sallyport agent
}

// newMachine starts an agent, as root.
func newMachine(t *testing.T, flags ...string) *machine {
	t.Helper()
	needKernelTier(t)
	dir, err := os.MkdirTemp(base, "agent-")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	m := &machine{t: t, dir: dir, socket: dir + "/socket", flags: flags}
	// The tests have mounts of their own: an agent would make none there.
	if err := os.MkdirAll(m.state()+"/bpf", 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(m.state(), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("bpf", m.state()+"/bpf", "bpf", 0, "mode=700"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		m.kill()
		if out, err := exec.Command(binary, "agent", "--remove", "--state-dir", m.state()).CombinedOutput(); err != nil {
			t.Errorf("remove: %v: %s", err, out)
		}
		os.RemoveAll(dir)
	})
	m.start()
	return m
}

func (m *machine) state() string { return m.dir + "/state" }

// start returns when the agent says that it is ready, as a service manager hears
// it.
func (m *machine) start() {
	m.t.Helper()
	name := m.dir + "/notify"
	os.Remove(name)
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrUnix{Name: name})
	}
	if err != nil {
		m.t.Fatal(err)
	}
	defer unix.Close(fd)
	_ = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 60})
	m.cmd = exec.Command(binary, append([]string{"agent", "--state-dir", m.state(), "--socket", m.socket}, m.flags...)...)
	m.cmd.Env = append(os.Environ(), "NOTIFY_SOCKET="+name)
	m.cmd.Stderr = os.Stderr
	if err := m.cmd.Start(); err != nil {
		m.t.Fatal(err)
	}
	buf := make([]byte, 100)
	if n, err := unix.Read(fd, buf); err != nil || string(buf[:n]) != "READY=1" {
		m.t.Fatalf("the agent is not ready: %q, %v", buf[:max(n, 0)], err)
	}
}

func (m *machine) kill() {
	_ = m.cmd.Process.Kill()
	_ = m.cmd.Wait() // killed
}

// home is one of the ordinary user's, who has this agent.
func (m *machine) home() *home {
	uid, _ := ordinary()
	return m.homeOf(uid)
}

// homeOf is another user's.
func (m *machine) homeOf(uid int) *home {
	h := newHomeOf(m.t, uid, uid).rootless() // or the keeper would come first
	h.env = append(h.env, "SALLYPORT_AGENT="+m.socket)
	return h
}

// machineEvents are what a user is shown of the machine's log.
func (h *home) machineEvents() (list []event.Event) {
	h.t.Helper()
	out, err := h.command(context.Background(), "audit", "query", "--all", "-o", "json").Output()
	if err != nil {
		h.t.Fatalf("audit query: %v", err)
	}
	for line := range strings.Lines(string(out)) {
		var e event.Event
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			h.t.Fatalf("%q: %v", line, err)
		}
		list = append(list, e)
	}
	return list
}

// corpus runs the corpus of denials and gives the truth.
func (h *home) corpus() map[string]int {
	h.t.Helper()
	h.corpusFiles()
	r := h.helper("denied", h.dir).ok()
	want := map[string]int{}
	for line := range strings.Lines(r.out) {
		var d deniedTruth
		if err := json.Unmarshal([]byte(line), &d); err != nil {
			h.t.Fatalf("%q: %v", line, err)
		}
		want[fmt.Sprint(d)]++
	}
	return want
}

func TestAnOrdinaryUserWithAnAgentHasTheRecordThatRootHas(t *testing.T) {
	m := newMachine(t)
	h := m.home()
	want, got := h.corpus(), map[string]int{}
	for _, e := range h.machineEvents() {
		p := e.Process
		if p == nil || string(p.Exe) != h.helperPath() {
			if p == nil || e.Reason != event.System {
				t.Errorf("nobody, or another: %s", describe([]event.Event{e}))
			}
			continue
		}
		if e.Rule == "" || e.Sandbox.Tier < event.TierTrace || (e.Reported > 0) == (e.Layer == event.LayerTrace || e.Layer == event.LayerCgroup || e.Layer == event.LayerLSM) {
			t.Errorf("rule %q, tier %s, layer %s, reported %d", e.Rule, e.Sandbox.Tier, e.Layer, e.Reported)
		}
		if len(p.Argv) != 2 || string(p.Comm) != "helper" || len(e.Ancestors) != 0 {
			t.Errorf("process %+v, ancestors %+v", p, e.Ancestors)
		}
		got[fmt.Sprint(deniedTruth{e.Operation.String(), fmt.Sprintf("%q", string(e.Object.Path)),
			fmt.Sprintf("%q", string(e.Object.To)), e.Reason.String(), e.Errno})] += int(e.Count)
	}
	if len(want) < 50 {
		t.Errorf("only %d different attempts", len(want))
	}
	for k, n := range want {
		if got[k] != n {
			t.Errorf("missed: %s: recorded %d of %d", k, got[k], n)
		}
	}
	for k, n := range got {
		if want[k] == 0 {
			t.Errorf("invented: %s: %d", k, n)
		}
	}
	if own, _ := filepath.Glob(h.dir + "/.local/state/sallyport/audit/*.jsonl"); len(own) > 0 {
		t.Errorf("the user has a record of it, too: %q", own)
	}
}

func TestAnotherUserIsShownNothingOfIt(t *testing.T) {
	m := newMachine(t)
	h := m.home()
	h.run("cat", "/etc/shadow")
	if len(h.machineEvents()) == 0 {
		t.Error("nothing is recorded")
	}
	other := newHomeOf(t, h.uid-1, h.gid-1).rootless()
	other.env = append(other.env, "SALLYPORT_AGENT="+m.socket)
	if list := other.machineEvents(); len(list) > 0 {
		t.Errorf("shown\n%s", describe(list))
	}
}

func TestTheSummaryWithAnAgentSaysWhatItsLogSays(t *testing.T) {
	m := newMachine(t)
	h := m.home()
	r, s := h.summarised(nil, "sh", "-c", "cat /etc/shadow; echo x >/etc/x; curl -s -m 5 http://denied.test/; exit 0")
	if !ofKernel(s.Tier) || s.Lost != 0 || r.code != 0 {
		t.Errorf("summary %+v", s)
	}
	denied := map[string]uint64{}
	for _, d := range s.Denials {
		denied[fmt.Sprint(d.Operation, d.Object.Path, d.Object.Host, d.Rule)] += d.Count
	}
	for _, e := range h.machineEvents() {
		if e.Verdict.Denied() && e.Reason != event.System {
			denied[fmt.Sprint(e.Operation, e.Object.Path, e.Object.Host, e.Rule)] -= e.Count
		}
	}
	for k, n := range denied {
		if n != 0 {
			t.Errorf("%s: %d more in the summary than in the log", k, int64(n))
		}
	}
	if len(denied) < 3 {
		t.Errorf("denials %+v", s.Denials)
	}
}

func TestARunOutlivesItsAgent(t *testing.T) {
	m := newMachine(t)
	h := m.home()
	script := `i=0
until [ -e go ]; do sleep 0.1; done
while [ $i -lt 20 ]; do echo x >/etc/denied-$i; i=$((i+1)); done
curl -s -m 20 http://denied.test/
touch done
until [ -e end ]; do sleep 0.1; done
echo x >/etc/denied-last
exit 0`
	h.usePolicy("require: {tier: trace}\n")
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	cmd := h.command(ctx, "run", "--policy", h.policy, "--", "sh", "-c", "touch started; "+script)
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var said strings.Builder
	reading := make(chan struct{})
	go func() {
		defer close(reading)
		for in := bufio.NewScanner(stderr); in.Scan(); {
			fmt.Fprintln(&said, in.Text())
		}
	}()
	waitFor(t, "the command runs", func() bool { return h.read("work/started") != "" || exists(h.work+"/started") })
	m.kill()
	h.write("work/go", "")
	waitFor(t, "it goes on without the agent", func() bool { return exists(h.work + "/done") })
	if r := h.run("true"); r.code != 125 || !strings.Contains(r.err, "requires tier trace") {
		t.Errorf("a new run without the agent: %d: %s", r.code, r.err)
	}
	m.start()
	h.write("work/end", "")
	err = cmd.Wait()
	<-reading
	if err != nil {
		t.Errorf("run: %v: %s", err, said.String())
	}
	seen, lost := map[string]uint64{}, uint64(0)
	for _, e := range h.machineEvents() {
		if e.Verdict.Denied() && e.Reason != event.System {
			seen[string(e.Object.Path)+string(e.Object.Host)] += e.Count
		}
		lost += e.LostSinceLast
	}
	want := []string{"/etc/denied-last", "denied.test"}
	for i := range 20 {
		want = append(want, fmt.Sprintf("/etc/denied-%d", i))
	}
	for _, k := range want {
		if seen[k] != 1 {
			t.Errorf("%s: %d in the log, want 1 (%d lost)", k, seen[k], lost)
		}
	}
	if !strings.Contains(said.String(), "the agent was away") {
		t.Errorf("nothing is said of it: %s", said.String())
	}
}

func TestWithoutAnAgentWhereOneShouldBeTheUserIsTold(t *testing.T) {
	h := newHome(t).rootless()
	h.env = append(h.env, "SALLYPORT_AGENT="+h.dir+"/nothing")
	if r := h.run("true").ok(); !strings.Contains(r.err, "reach agent") {
		t.Errorf("said: %s", r.err)
	}
	out, _ := h.command(context.Background(), "doctor").Output() // less than it could be
	if !strings.Contains(string(out), "agent") || !strings.Contains(string(out), "there is none at") {
		t.Errorf("doctor says\n%s", out)
	}
	h.env = append(h.env, "SALLYPORT_AGENT=")
	if r := h.run("true").ok(); strings.Contains(r.err, "agent") {
		t.Errorf("asked for none, said: %s", r.err)
	}
}

func TestTheAgentEndsOnSIGTERMAndReloadsOnSIGHUP(t *testing.T) {
	m := newMachine(t)
	h := m.home()
	h.run("cat", "/etc/shadow")
	if err := m.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	h.run("cat", "/etc/gshadow")
	if list := h.machineEvents(); len(list) < 2 {
		t.Errorf("recorded\n%s", describe(list))
	}
	if err := m.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := m.cmd.Wait(); err != nil {
		t.Errorf("SIGTERM: %v", err)
	}
	m.start()
	if list := h.machineEvents(); len(list) < 2 {
		t.Errorf("after a restart there are\n%s", describe(list))
	}
}
