package selftest

import (
	"testing"

	"github.com/sallyport/sallyport/testvm"
)

// TestFeaturesAreWhatTheKernelShouldHave asks for each by itself, so that all that
// are missing are named: Require fails for one that this kernel and boot promise.
func TestFeaturesAreWhatTheKernelShouldHave(t *testing.T) {
	machine(t)
	for _, name := range testvm.Features() {
		t.Run(string(name), func(t *testing.T) { testvm.Require(t, name) })
	}
}
