package sallyport

import (
	"strings"
	"testing"
)

func TestWhatLandlockIsShortOfIsSaid(t *testing.T) {
	const fifos, renames, pipes = "FIFOs", "EXDEV", "go through pipes"
	for abi, want := range []string{fifos + " " + pipes, renames + " " + pipes, pipes, "", "", ""} {
		found := landlockFound(abi)
		for _, word := range []string{fifos, renames, pipes} {
			if strings.Contains(found, word) != strings.Contains(want, word) {
				t.Errorf("ABI %d: %s: want %q", abi, found, want)
			}
		}
		if (landlockState(abi) == StateOK) != (want == "") {
			t.Errorf("ABI %d is %s", abi, landlockState(abi))
		}
	}
}

func TestWhatLimitsAreShortOfIsSaid(t *testing.T) {
	for controllers, want := range map[string]string{
		"cpuset cpu io memory pids\n": "",
		"memory pids\n":               "on cpu are",
		"cpuset io\n":                 "on memory, pids, cpu are",
		"":                            "on memory, pids, cpu are",
	} {
		state, found := limitsFound("/sys/fs/cgroup", controllers)
		if (state == StateOK) != (want == "") || !strings.Contains(found, want) {
			t.Errorf("%q: %s, %s", controllers, state, found)
		}
	}
}
