package vm

import (
	"os"
	"testing"
	"time"
)

func TestProcessorTimeIsReadWhateverTheProgramIsCalled(t *testing.T) {
	for stat, want := range map[string]time.Duration{
		"7 (qemu) S 1 7 7 0 -1 4194560 100 0 0 0 150 25 0 0 20 0 1":        1750 * time.Millisecond,
		"7 (a) b (c) S 1 7 7 0 -1 4194560 100 0 0 0 150 25 0 0 20 0 1":     1750 * time.Millisecond,
		"7 (qemu) S 1 7 7 0 -1 4194560 100 0 0 0 much too 0 0 20 0 1 0 99": 0,
		"7 (qemu) S 1": 0,
		"":             0,
	} {
		if got := cpuIn(stat); got != want {
			t.Errorf("%q: %s, want %s", stat, got, want)
		}
	}
	if cpuOf(os.Getpid()) < 0 || cpuOf(-1) != 0 {
		t.Error("a process that is not there has used a processor")
	}
}
