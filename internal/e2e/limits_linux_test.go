package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/cgroup"
	"github.com/sallyport/sallyport/internal/event"
	"github.com/sallyport/sallyport/testvm"
)

// controllers fails to name what limits take where they are not in cgroup v2.
func controllers() (missing string) {
	mount, err := cgroup.Mount()
	if err != nil {
		return err.Error()
	}
	b, err := os.ReadFile(filepath.Join(mount, "cgroup.controllers"))
	if err != nil {
		return err.Error()
	}
	for _, c := range []string{"memory", "pids", "cpu"} {
		if !slices.Contains(strings.Fields(string(b)), c) {
			return "cgroup v2 has no controller " + c + " here: version 1 has it"
		}
	}
	return ""
}

func TestARunEndsWhenItsTimeIsOver(t *testing.T) {
	h := newHome(t)
	for name, c := range map[string]struct {
		policy string
		flags  []string
		want   string
	}{
		"by the policy":         {"limits: {time: 300ms}", nil, "300ms"},
		"the policy's is less":  {"limits: {time: 300ms}", []string{"--timeout", "1h"}, "300ms"},
		"the command line's is": {"limits: {time: 1h}", []string{"--timeout", "250ms"}, "250ms"},
	} {
		r := h.usePolicy(c.policy).runWith(c.flags, "sleep", "635")
		if r.code != 124 || !strings.Contains(r.err, "had not ended after "+c.want) {
			t.Errorf("%s: exit status %d\n%s", name, r.code, r.err)
		}
		e := r.limited(event.TimeUse)
		if len(r.limits(event.TimeUse)) != 1 || e.Count != 1 || e.Object.Ref != "limits.time" || e.Process == nil || !slices.Equal(e.Process.Argv, []event.Text{"sleep", "635"}) ||
			strings.Contains(e.Rule, "policy.yaml:1") == (name == "the command line's is") {
			t.Errorf("%s: in the record: %+v", name, e)
		}
	}
	if r := h.usePolicy("limits: {time: 10m}").run("true"); r.code != 0 {
		t.Errorf("exit status %d\n%s", r.code, r.err)
	}
}

// limits gives the events of limits that a run has left.
func (r *result) limits(op event.Operation) []event.Event {
	return slices.DeleteFunc(slices.Clone(r.events), func(e event.Event) bool {
		return e.Operation != op || e.Reason != event.LimitExceeded || e.Verdict != event.Deny
	})
}

// limited is for where there must be one.
func (r *result) limited(op event.Operation) event.Event {
	r.t.Helper()
	list := r.limits(op)
	if len(list) == 0 {
		r.t.Fatalf("no event of %s:\n%s", op, describe(r.events))
	}
	return list[0]
}

func TestALimitOfItsOwnThatEndsTheCommandIsRecorded(t *testing.T) {
	h := newHome(t)
	r := h.sh("ulimit -f 1; exec dd if=/dev/zero of=big bs=1k count=100")
	if e := r.limited(event.FileWrite); r.code != 128+int(syscall.SIGXFSZ) || e.Object.Ref != "RLIMIT_FSIZE" || e.Rule != "builtin:rlimit" {
		t.Errorf("exit status %d: %+v", r.code, e)
	}
	if r := h.sh("ulimit -f 1000; dd if=/dev/zero of=small bs=1k count=1").ok(); len(r.limits(event.FileWrite)) != 0 {
		t.Errorf("%s", describe(r.events))
	}
}

// noManager keeps a run from the user's own service manager.
func (h *home) noManager() *home {
	h.env = append(h.env, "DBUS_SESSION_BUS_ADDRESS=unix:path=/nonexistent/bus")
	return h
}

func TestALimitThatCannotBeEnforcedStartsNothing(t *testing.T) {
	h := newHome(t).noManager()
	if os.Getenv(tierEnv) != "" {
		t.Skip("with root's help limits are enforced, see TestLimitsHold")
	}
	for _, limit := range []string{"memory: 1G", "pids: 100", "cpu: 1"} {
		r := h.usePolicy("# one\nlimits: {"+limit+"}").run("touch", "ran")
		key, _, _ := strings.Cut(limit, ":")
		if _, err := os.Stat(h.work + "/ran"); err == nil || r.code != 125 || !strings.Contains(r.err, "limits."+key) ||
			!strings.Contains(r.err, "policy.yaml:2") || !strings.Contains(r.err, "hint: ") {
			t.Errorf("%s: exit status %d, ran: %v\n%s", limit, r.code, err == nil, r.err)
		}
	}
	r := h.usePolicy("limits: {pids: 100}").runWith([]string{"--dry-run"}, "true").ok()
	if !strings.Contains(r.out, "# limits\npids 100 (") {
		t.Errorf("the plan does not say it:\n%s", r.out)
	}
}

func TestTheAgentStartsNothingWithALimitThatTheKernelHasNot(t *testing.T) {
	if controllers() == "" {
		t.Skip("this kernel has them, see TestLimitsHold")
	}
	h := newMachine(t).home()
	r := h.usePolicy("limits: {memory: 1G}").run("touch", "ran")
	if _, err := os.Stat(h.work + "/ran"); err == nil || r.code != 125 || !strings.Contains(r.err, "no such controller") {
		t.Errorf("exit status %d, ran: %v\n%s", r.code, err == nil, r.err)
	}
	if left := h.sallyport("ps").ok().out; left != "" {
		t.Errorf("left behind: %s", left)
	}
}

func init() { helpers["hungry"] = hungryHelper }

// hungryHelper takes what it can get: "memory MIB", "processes" or "processor".
func hungryHelper() {
	switch os.Args[1] {
	case "memory":
		n, _ := strconv.Atoi(os.Args[2])
		b := make([]byte, n<<20)
		for i := 0; i < len(b); i += 4096 {
			b[i] = 1
		}
		fmt.Println("had it", len(b), b[len(b)-4096])
	case "processes":
		n := 0
		for ; n < 500; n++ {
			cmd := exec.Command("/bin/sleep", "600")
			if cmd.Start() != nil {
				break
			}
		}
		fmt.Println(n)
	case "processor":
		var ru syscall.Rusage
		for ru.Utime.Nano()+ru.Stime.Nano() < int64(time.Second) {
			_ = syscall.Getrusage(syscall.RUSAGE_SELF, &ru)
		}
	}
}

func TestLimitsHold(t *testing.T) {
	testvm.Require(t, testvm.CgroupLimits)
	for name, owner := range map[string]func(t *testing.T) *home{
		"the agent": func(t *testing.T) *home { return newMachine(t).home() },
		"the user's service manager": func(t *testing.T) *home {
			h := newHome(t)
			if h.uid == os.Getuid() {
				testvm.Require(t, testvm.Delegation)
			}
			bus := "/run/user/" + strconv.Itoa(h.uid) + "/bus"
			if _, err := os.Stat(bus); err != nil {
				t.Skip("the user has no service manager: ", err)
			}
			h.env = append(h.env, "DBUS_SESSION_BUS_ADDRESS=unix:path="+bus)
			return h
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := owner(t).usePolicy("limits: {memory: 96M}")
			if r := h.helper("hungry", "memory", "256"); r.code == 0 || r.code == 125 || strings.Contains(r.out, "had it") {
				t.Errorf("memory: exit status %d\n%s%s", r.code, r.out, r.err)
			} else if e := r.limited(event.MemoryUse); e.Count < 1 || e.Object.Ref != "limits.memory" || !strings.HasSuffix(e.Rule, "policy.yaml:1") || e.Layer != event.LayerCgroup {
				t.Errorf("memory: in the record: %+v", e)
			}
			if r := h.helper("hungry", "memory", "32"); r.code != 0 {
				t.Errorf("memory within the limit: exit status %d\n%s", r.code, r.err)
			}
			r := h.usePolicy("limits: {pids: 20}").helper("hungry", "processes")
			// Its own threads count, and what is set aside but not used.
			if n, err := strconv.Atoi(strings.TrimSpace(r.out)); err != nil || n < 5 || n > 52 {
				t.Errorf("pids: %q processes, %v\n%s", r.out, err, r.err)
			}
			if e := r.limited(event.ProcCreate); e.Count < 1 || e.Errno != "EAGAIN" || !strings.HasSuffix(e.Rule, "policy.yaml:1") {
				t.Errorf("pids: in the record: %+v", e)
			}
			begun := time.Now()
			r = h.usePolicy("limits: {cpu: 0.5}").helper("hungry", "processor")
			if took := time.Since(begun); r.code != 0 || took < 1500*time.Millisecond { // 2 s, less what the first period gives
				t.Errorf("cpu: a second of a processor took %s: %d\n%s", took, r.code, r.err)
			}
		})
	}
}
