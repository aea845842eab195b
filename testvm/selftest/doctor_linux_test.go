package selftest

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/testvm"
)

// TestDoctorNamesWhatTheMachineLacks: by its cause and with a cure, in words and
// as JSON.
func TestDoctorNamesWhatTheMachineLacks(t *testing.T) {
	kernel, init, boot := parts(t)
	g, err := testvm.Guest()
	if err != nil {
		t.Fatal(err)
	}
	dir := userHome(t)
	lsmLess := os.Geteuid() == 0 && slices.Contains(g.Without, testvm.BPFLSM)
	said := func(args ...string) (string, int) {
		cmd := inProject(dir, args...)
		if lsmLess { // with what root does for a user's run
			cmd = exec.Command(cmd.Path, append(args, "--user", strconv.Itoa(ordinaryUID))...)
			cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir}
		}
		out, err := cmd.Output()
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) {
			t.Fatal(err)
		}
		return string(out), cmd.ProcessState.ExitCode()
	}
	text, _ := said("doctor")
	asJSON, status := said("doctor", "-o", "json")
	t.Log(text)
	type finding struct{ Name, State, Found, Cure string }
	var d struct{ Findings []finding }
	if err := json.Unmarshal([]byte(asJSON), &d); err != nil {
		t.Fatalf("%v: %s", err, asJSON)
	}
	lacks := func(name, state, found, cure string) {
		t.Helper()
		i := slices.IndexFunc(d.Findings, func(f finding) bool { return f.Name == name })
		if i < 0 {
			t.Errorf("nothing is said of %s", name)
			return
		}
		f := d.Findings[i]
		if f.State != state || !strings.Contains(f.Found, found) || f.Cure == "" || !strings.Contains(f.Cure, cure) {
			t.Errorf("%+v, want %s, %q, with the cure %q", f, state, found, cure)
		}
		if !strings.Contains(text, f.Found) || !strings.Contains(text, f.Cure) {
			t.Errorf("the text does not say %+v", f)
		}
	}
	if want := map[string]string{"5.10": "not in this kernel", "6.1": "ABI 2"}[kernel]; want != "" {
		lacks("landlock", "less", want, "Linux 6.2")
	}
	if lsmLess {
		lacks("tier lsm", "less", "", "with bpf in lsm=")
	} else if init == "plain" {
		lacks("limits", "less", "no service manager", "enable-linger")
	} else if boot == "hybrid" {
		lacks("limits", "less", "no such controller", "unified_cgroup_hierarchy")
	}
	if slices.Contains(g.Without, testvm.Userns) {
		lacks("namespaces, nftables", "missing", "", map[string]string{
			"nouserns": "kernel.unprivileged_userns_clone=1", "apparmor": "security module"}[boot])
	}
	if bad := slices.Contains(g.Without, testvm.Userns); bad != (status == 1) {
		t.Errorf("exit status %d", status)
	}
}
