package main

import (
	"os"
	"strings"
	"testing"
)

func TestDoctorAsRootWantsToKnowWhoWouldRun(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("is what root is told: the tests were started by an ordinary user")
	}
	t.Chdir(t.TempDir()) // root's own: nothing says who else it could be
	t.Setenv("SUDO_UID", "")
	var out, errOut strings.Builder
	status := execute(t.Context(), []string{"doctor"}, strings.NewReader(""), &out, &errOut)
	if status != exitProblem || !strings.Contains(errOut.String(), "--user") || out.Len() > 0 {
		t.Errorf("status %d, stdout %q, stderr %q", status, out.String(), errOut.String())
	}
}
