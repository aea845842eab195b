package feature

import (
	"errors"
	"os"
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
