package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/internal/cgroup"
	"github.com/sallyport/sallyport/internal/event"
	"github.com/sallyport/sallyport/testvm"
)

// needKernelTier skips where the kernel cannot record; where it can, the test
// fails unless sallyport has it do so.
func needKernelTier(t *testing.T) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("takes root: the tests were started by an ordinary user")
	}
	testvm.Require(t, testvm.KernelTier...)
	if why := traceTier(); why != "" {
		t.Fatalf("no tier trace, though the kernel can: %s", why)
	}
}

// traceTier says why doctor finds no such tier; empty: it does.
var traceTier = sync.OnceValue(func() string {
	h := &home{dir: base, work: base}
	cmd := h.program(context.Background(), binary, "doctor", "--user", "65534:65534", "-o", "json")
	out, _ := cmd.Output()
	var d struct {
		Findings []struct{ Name, State, Found string }
	}
	if err := json.Unmarshal(out, &d); err != nil {
		return "doctor says nothing: " + string(out)
	}
	for _, f := range d.Findings {
		if f.Name == "tier trace" && f.State == "ok" {
			return ""
		}
		if f.Name == "tier trace" {
			return f.Found
		}
	}
	return "doctor does not know of it"
})

// traceHome is a home whose sallyport is started by root, for the ordinary user,
// where the kernel can record.
func traceHome(t *testing.T) *home {
	t.Helper()
	needKernelTier(t)
	h := rootHome(t)
	uid, gid := ordinary()
	h.env = append(h.env, "SUDO_UID="+strconv.Itoa(uid), "SUDO_GID="+strconv.Itoa(gid), "HOME="+h.dir)
	return h
}

// asUser runs with the user's own home, which root's becoming the user would set
// to that of the user database.
func (h *home) traced(flags []string, helper string, args ...string) *result {
	h.t.Helper()
	flags = append([]string{"-e", helperEnv + "=" + helper, "-e", "HOME=" + h.dir}, flags...)
	return h.runWith(flags, append([]string{h.helperPath()}, args...)...)
}

const tracePolicy = `filesystem:
  denyRead: [%[1]s/.ssh]
  allowWrite: [%[1]s/work]
`

func (h *home) corpusFiles() {
	h.t.Helper()
	h.write(".ssh/id", "secret")
	h.mkdir("ro/d")
	for _, name := range strings.Split("f g h i j k l", " ") {
		h.write("ro/"+name, "x")
	}
	h.write("work/mine", "x")
	h.symlink("../ro/i", "work/link")
	h.symlink("../ro/d", "work/dirlink")
	roots := h.write("work/roots", "x")
	if err := os.Chown(roots, 0, 0); err != nil {
		h.t.Fatal(err)
	}
	if err := os.Chmod(roots, 0o600); err != nil {
		h.t.Fatal(err)
	}
	h.serveUnix("ro/socket")
	h.usePolicy(fmt.Sprintf(tracePolicy, h.dir))
}

// ownedByUser hands a root home's files to the ordinary user, as they would be.
func (h *home) ownedByUser() *home {
	h.uid, h.gid = ordinary()
	return h
}

func TestEveryDenialOfTheCorpusIsOneEventWithItsRule(t *testing.T) {
	h := traceHome(t)
	owner := *h
	owner.ownedByUser().own(h.dir)
	owner.own(h.work)
	owner.corpusFiles()
	h.policy = owner.policy
	r := h.traced(nil, "denied", h.dir).ok()
	want, got := map[string]int{}, map[string]int{}
	for line := range strings.Lines(r.out) {
		var d deniedTruth
		if err := json.Unmarshal([]byte(line), &d); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		if !slices.Contains([]string{"EPERM", "EACCES", "EROFS", "EXDEV"}, d.Errno) {
			t.Errorf("%s %s: %s, the corpus wants refusals", d.Op, d.Path, d.Errno)
		}
		want[fmt.Sprint(d)]++
	}
	for _, e := range r.events {
		p := e.Process
		if p == nil || string(p.Exe) != h.helperPath() {
			if p == nil || e.Reason != event.System {
				t.Errorf("nobody, or another: %s", describe([]event.Event{e}))
			}
			continue
		}
		if e.Rule == "" || e.Sandbox.Tier < event.TierTrace {
			t.Errorf("rule %q, tier %s", e.Rule, e.Sandbox.Tier)
		}
		if len(p.Argv) != 2 || string(p.Argv[1]) != h.dir || string(p.Comm) != "helper" || len(e.Ancestors) != 0 {
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
			t.Errorf("invented: %s: %d\n%s", k, n, describe(slices.DeleteFunc(slices.Clone(r.events), func(e event.Event) bool {
				return e.Operation.String() != strings.Fields(k[1:])[0]
			})))
		}
	}
}

func TestTheKernelKnowsWhoTried(t *testing.T) {
	for _, tt := range []struct {
		how   string
		count int
		exe   string // of the process, if another than the helper
	}{
		{"plain", 1, ""}, {"lies", 1, ""}, {"threads", 8, ""}, {"short", 50, ""}, {"deleted", 1, "gone"}, {"orphan", 1, ""},
	} {
		t.Run(tt.how, func(t *testing.T) {
			h := traceHome(t)
			owner := *h
			owner.ownedByUser().own(h.dir)
			owner.own(h.work)
			owner.write(".ssh/id", "secret")
			h.usePolicy(fmt.Sprintf(tracePolicy, h.dir))
			script := fmt.Sprintf("%s %s %s/.ssh/x & wait", h.helperPath(), tt.how, h.dir)
			if tt.how == "orphan" {
				script += "; until [ -e looked ]; do sleep 0.01; done"
			}
			r := h.runWith([]string{"-e", helperEnv + "=look", "-e", "HOME=" + h.dir}, "sh", "-c", script).ok()
			total, pids := 0, map[int]bool{}
			for _, e := range r.events {
				if !strings.HasPrefix(string(e.Object.Path), h.dir+"/.ssh/x") {
					continue
				}
				total += int(e.Count)
				pids[e.Process.PID] = true
				exe := h.helperPath()
				if tt.exe != "" {
					exe = filepath.Join(h.work, tt.exe)
				}
				if string(e.Process.Exe) != exe || e.Reason != event.PathHidden {
					t.Errorf("%s", describe([]event.Event{e}))
				}
				if n := len(e.Ancestors); n == 0 || string(e.Ancestors[n-1].Comm) != "sh" {
					t.Errorf("ancestors %+v, want the shell last", e.Ancestors)
				}
			}
			if total != tt.count || tt.how == "short" && len(pids) != 50 || tt.how == "threads" && len(pids) != 1 {
				t.Errorf("%d attempts of %d processes recorded, want %d\n%s", total, len(pids), tt.count, describe(r.events))
			}
		})
	}
}

func TestTheHostsOwnRefusalsAreCountedApart(t *testing.T) {
	h := traceHome(t)
	owner := *h
	owner.ownedByUser().own(h.dir)
	owner.own(h.work)
	owner.corpusFiles()
	h.policy = owner.policy
	r, s := h.summarised(nil, "sh", "-c", "cat roots; echo x >"+h.dir+"/ro/f; exit 0")
	if len(s.Denials) != 1 || !strings.Contains(r.err, "1 attempt denied") || !strings.Contains(r.err, "the host itself refused") {
		t.Errorf("summary %+v\n%s", s, r.err)
	}
	if out, _ := h.command(context.Background(), "audit", "query").Output(); strings.Contains(string(out), "roots") {
		t.Errorf("audit query shows\n%s", out)
	}
	if out, _ := h.command(context.Background(), "audit", "query", "--all").Output(); !strings.Contains(string(out), "work/roots system builtin:system") {
		t.Errorf("audit query --all shows\n%s", out)
	}
	if r.code != 0 || slices.ContainsFunc(s.NotRecorded, func(n string) bool { return strings.HasPrefix(n, "files") }) {
		t.Errorf("not recorded: %q", s.NotRecorded)
	}
}

func TestAPolicyCanRequireTheTier(t *testing.T) {
	const text = "require: {tier: trace, audit: true}\n"
	h := newHome(t).rootless()
	h.usePolicy(text)
	h.run("touch", "started").badHost("requires tier trace", "rootless")
	h.notStarted()
	h = traceHome(t)
	h.usePolicy("require: {tier: trace}\n").run("true").ok()
	h.usePolicy(text)
	if _, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION); errno == unix.ENOSYS {
		h.run("touch", "started").badHost("FIFOs", "without Landlock (Linux 5.13)")
		h.notStarted()
		return
	}
	h.run("true").ok()
}

func TestAFloodFillsNeitherTheDiskNorLosesANumber(t *testing.T) {
	h := traceHome(t)
	const n = 20_000
	owner := *h
	owner.ownedByUser().own(h.dir)
	owner.mkdir("ro")
	r := h.traced(nil, "unique", h.dir+"/ro", strconv.Itoa(n)).ok()
	var told, lost uint64
	for _, e := range r.events {
		if e.Operation == event.FileCreate {
			told += e.Count
		}
		lost += e.LostSinceLast
	}
	if told+lost != n || len(r.events) > 3000 {
		t.Errorf("%d attempts: %d told in %d events, %d lost", n, told, len(r.events), lost)
	}
}

// keeperOf finds the keeper among a supervisor's children.
func keeperOf(t *testing.T, supervisor int) int {
	t.Helper()
	for _, p := range descendants(t) {
		if p.parent == supervisor && strings.HasPrefix(p.args, "sallyport: keeper") {
			return p.pid
		}
	}
	t.Fatal("there is no keeper")
	return 0
}

// groundOf gives the cgroup of the keeper of a process.
func groundOf(t *testing.T, pid int) string {
	t.Helper()
	return filepath.Dir(cgroupOf(t, pid))
}

// cgroupOf is the folder of a process's cgroup.
func cgroupOf(t *testing.T, pid int) string {
	t.Helper()
	mount, err := cgroup.Mount()
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if rel, ok := strings.CutPrefix(strings.TrimSpace(line), "0::"); ok {
			return filepath.Join(mount, rel)
		}
	}
	t.Fatal("no cgroup")
	return ""
}

func TestWithoutItsKeeperOrSupervisorNothingGoesOn(t *testing.T) {
	for _, victim := range []string{"keeper", "supervisor"} {
		t.Run(victim, func(t *testing.T) {
			h := traceHome(t)
			before := descendants(t)
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			cmd := h.command(ctx, "run", "--", "sh", "-c", "echo started; sleep 1000")
			errOut := saysStarted(t, cmd)
			keeper := keeperOf(t, cmd.Process.Pid)
			ground := ""
			for _, p := range descendants(t) {
				if strings.HasPrefix(p.args, "sh -c echo") { // the command's own, not those that name it
					ground = groundOf(t, p.pid)
				}
			}
			if _, err := os.Stat(ground); err != nil || !strings.Contains(ground, "/sallyport-runs/run-") {
				t.Fatalf("the sandbox's cgroup is below %q: %v", ground, err)
			}
			if victim == "keeper" {
				_ = unix.Kill(keeper, unix.SIGKILL)
			} else {
				_ = unix.Kill(cmd.Process.Pid, unix.SIGKILL)
			}
			_ = cmd.Wait()
			if victim == "keeper" && (cmd.ProcessState.ExitCode() != 125 || !strings.Contains(errOut.String(), "the kernel side of the run has gone")) {
				t.Errorf("exit status %d\n%s", cmd.ProcessState.ExitCode(), errOut.String())
			}
			h.nothingLeft(before)
			h.run("true").ok() // sweeps what a keeper that was killed has left
			for end := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
				if _, err := os.Stat(ground); err != nil {
					break
				}
				if time.Now().After(end) {
					t.Fatalf("%s is left", ground)
				}
			}
		})
	}
}

func TestManyRunsAtOnceKeepTheirRecordsApart(t *testing.T) {
	h := traceHome(t)
	runs := 12
	if os.Getenv("SALLYPORT_LONG") != "" {
		runs = 100
	}
	before := descendants(t)
	var wg sync.WaitGroup
	codes := make([]string, runs)
	slots := make(chan struct{}, 6)
	for i := range runs {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			cmd := h.command(context.Background(), "run", "--name", fmt.Sprint("run-", i), "--", "sh", "-c", "echo x >/etc/"+fmt.Sprint(i)+" 2>/dev/null; exit 3")
			out, _ := cmd.CombinedOutput()
			if cmd.ProcessState.ExitCode() != 3 {
				codes[i] = string(out)
			}
		})
	}
	wg.Wait()
	for i, said := range codes {
		if said != "" {
			t.Errorf("run %d: %s", i, said)
		}
	}
	h.nothingLeft(before)
	seen := map[string]int{}
	for _, e := range h.events() {
		if e.Operation == event.FileCreate {
			seen[string(e.Sandbox.Name)+" "+string(e.Object.Path)] += int(e.Count)
		}
	}
	for i := range runs {
		if n := seen[fmt.Sprintf("run-%d /etc/%d", i, i)]; n != 1 {
			t.Errorf("run %d: %d events", i, n)
		}
	}
	if len(seen) != runs {
		t.Errorf("%v", seen)
	}
}
