package selftest

import (
	"testing"

	"github.com/sallyport/sallyport/testvm"
)

// TestRequireAgreesWithTheMachine asks for what is quickly found out; the harness
// surveys all features of a machine and judges them by the same rule.
func TestRequireAgreesWithTheMachine(t *testing.T) {
	machine(t)
	for _, name := range []testvm.Feature{testvm.Userns, testvm.Cgroup2, testvm.Landlock, testvm.Openat2, testvm.MPTCP} {
		t.Run(string(name), func(t *testing.T) { testvm.Require(t, name) })
	}
}
