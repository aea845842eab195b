package feature

import (
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestEveryFeatureHasAProbe(t *testing.T) {
	for _, f := range All {
		if probes[f.Name] == nil {
			t.Errorf("%s has none", f.Name)
		}
	}
	if len(probes) != len(All) {
		t.Errorf("%d probes for %d features", len(probes), len(All))
	}
}

func TestProbeOfUnknownFeatureCannotTell(t *testing.T) {
	if _, err := Probe("teleport"); err == nil || errors.Is(err, ErrMissing) {
		t.Errorf("Probe = %v, want an error that is not conclusive", err)
	}
}

// TestProbesAreConclusive runs them on the kernel at hand: whatever it has, no
// probe may end in an error that says neither yes nor no.
func TestProbesAreConclusive(t *testing.T) {
	for _, r := range Survey() {
		if f, _ := Find(r.Name); f.Root && os.Geteuid() != 0 {
			continue
		}
		if !r.Known {
			t.Errorf("%s: %s", r.Name, r.Detail)
		}
	}
}

func TestVerdict(t *testing.T) {
	if err := verdict("x", nil, unix.ENOSYS); err != nil {
		t.Errorf("success: %v", err)
	}
	if err := verdict("x", unix.ENOSYS, unix.EINVAL, unix.ENOSYS); !errors.Is(err, ErrMissing) {
		t.Errorf("an errno of absence: %v", err)
	}
	if err := verdict("x", unix.EIO, unix.ENOSYS); err == nil || errors.Is(err, ErrMissing) {
		t.Errorf("another errno: %v", err)
	}
}

func TestOutcomeTellsRefusalFromFailureToStart(t *testing.T) {
	if err := outcome(exec.Command("true")); err != nil {
		t.Errorf("success: %v", err)
	}
	err := outcome(exec.Command("sh", "-c", "echo; echo first; echo second; exit 1"))
	if !errors.Is(err, ErrMissing) || !strings.Contains(err.Error(), "first") || strings.Contains(err.Error(), "second") {
		t.Errorf("refusal: %v", err)
	}
	if err := outcome(exec.Command("/nonexistent")); err == nil || errors.Is(err, ErrMissing) {
		t.Errorf("failure to start: %v", err)
	}
}

func TestProgramThatIsNotInstalledIsMissing(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	for name, err := range map[string]error{"tryAsUser": tryAsUser("unshare", "true"), "bwrap": second(probeBwrap())} {
		if !errors.Is(err, ErrMissing) || !strings.Contains(err.Error(), "not installed") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func second(_ string, err error) error { return err }

// TestRulesetThatIsWrongIsRefused: the probes that load rules can fail.
func TestRulesetThatIsWrongIsRefused(t *testing.T) {
	switch err := tryRules(inOutput("counter")); {
	case errors.Is(err, ErrMissing), errors.Is(err, ErrNeedsRoot):
		t.Skipf("no nftables here: %v", err)
	case err != nil:
		t.Fatal(err)
	}
	for _, rule := range []string{"no such thing", "socket cgroupv2 level 1 \"no/such/cgroup\" drop"} {
		if err := tryRules(inOutput(rule)); !errors.Is(err, ErrMissing) {
			t.Errorf("rule %q: %v", rule, err)
		}
	}
}

func TestProbesLeaveNoCgroup(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("takes root: a cgroup of its own")
	}
	group, err := makeCgroup()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(group.dir() + "/cgroup.procs"); err != nil {
		t.Errorf("cgroup %s: %v", group.dir(), err)
	}
	if err := group.remove(); err != nil {
		t.Errorf("remove: %v", err)
	}
	if _, err := os.Stat(group.dir()); err == nil {
		t.Errorf("%s is still there", group.dir())
	}
}
