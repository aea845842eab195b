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
