package loader

import (
	"errors"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestOnlyAKernelThatIsKnownNotToPreemptItselfDoesNot(t *testing.T) {
	unknown := errors.New("unknown")
	for name, tt := range map[string]struct {
		version string
		mode    int32
		err     error
		want    error
	}{
		"voluntary, built so": {"#1 SMP Debian 6.1.1", 2, nil, nil},
		"full, built so":      {"#1 SMP PREEMPT Debian 6.1.1", 0, nil, errPreempts},
		"real time":           {"#1 SMP PREEMPT_RT Debian 6.1.1", 0, nil, errPreempts},
		"none":                {"#1 SMP PREEMPT_DYNAMIC Debian 6.12.1", 0, nil, nil},
		"voluntary":           {"#1 SMP PREEMPT_DYNAMIC Debian 6.12.1", 1, nil, nil},
		"full":                {"#1 SMP PREEMPT_DYNAMIC Debian 6.12.1", 2, nil, errPreempts},
		"lazy":                {"#1 SMP PREEMPT_DYNAMIC Debian 6.18.1", 3, nil, errPreempts},
		"no such variable":    {"#1 SMP PREEMPT_DYNAMIC Debian 6.18.1", -1, nil, errPreempts},
		"not known":           {"#1 SMP PREEMPT_DYNAMIC Debian 6.18.1", 0, unknown, unknown},
	} {
		if got := preemptsBy(tt.version, func() (int32, error) { return tt.mode, tt.err }); !errors.Is(got, tt.want) {
			t.Errorf("%s: %v, want %v", name, got, tt.want)
		}
	}
}

// The kernel itself says it to whoever mounts its file system for debugging.
func TestTheModeOfPreemptionIsTheKernels(t *testing.T) {
	needRoot(t)
	if !has(fexitHelper) {
		t.Skip("this kernel is too old for the programs that it is asked for")
	}
	mode, err := preemptMode()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := unix.Mount("debugfs", dir, "debugfs", 0, ""); err != nil {
		t.Skipf("no debugfs: %v", err)
	}
	defer unix.Unmount(dir, 0)
	b, err := os.ReadFile(dir + "/sched/preempt")
	if err != nil {
		t.Skipf("this kernel does not say: %v", err)
	}
	want := map[string]int32{"none": 0, "voluntary": 1, "full": 2, "lazy": 3}
	_, in, _ := strings.Cut(string(b), "(")
	in, _, _ = strings.Cut(in, ")")
	if w, ok := want[in]; !ok && mode != -1 || ok && mode != w {
		t.Errorf("mode %d, debugfs says %q", mode, b)
	}
}
