package loader

import (
	"errors"
	"testing"

	"github.com/sallyport/sallyport/internal/event"
	"github.com/sallyport/sallyport/testvm"
)

// needLSM skips where the kernel takes no LSM programs; inside a test VM that is a
// failure, unless the machine was booted so.
func needLSM(t *testing.T) {
	t.Helper()
	needRoot(t)
	testvm.Require(t, testvm.BPFLSM, testvm.BPFLSMUserns)
}

func TestTheSelfTestHitsEveryLSMProgram(t *testing.T) {
	needLSM(t)
	list, err := SelfTest(t.Context(), parentGroup(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range list {
		if f.State != Works && f.Tier != event.TierNone {
			t.Errorf("%s, which %s: %v: %+v", f.Program, f.Purpose, f.State, f.Err)
		}
	}
	if tier, err := Tier(list); tier != event.TierLSM || err != nil {
		t.Errorf("tier %s, %v", tier, err)
	}
}

func TestWithoutLSMProgramsTheRestIsWholeAndTheReasonIsSaid(t *testing.T) {
	list, err := SelfTest(t.Context(), parentGroup(t))
	if err != nil {
		t.Fatal(err)
	}
	tier, why := Tier(list)
	if tier == event.TierLSM {
		t.Skip("this kernel enforces what LSM programs say")
	}
	if tier != event.TierTrace || why == nil {
		t.Errorf("tier %s, %v", tier, why)
	}
	for _, f := range list {
		if f.Tier == event.TierLSM && (f.State == Works || f.State == Broken || f.Err == nil || (f.State == Unsupported) != errors.Is(f.Err, ErrMissing)) {
			t.Errorf("%s: %v: %v", f.Program, f.State, f.Err)
		}
	}
	t.Logf("%s: %v", tier, why)
}
