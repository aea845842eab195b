package testvm

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// shell is a step that runs a script.
func shell(name, script string, user bool) Step {
	return Step{Name: name, Argv: []string{"sh", "-c", script}, User: user, Deadline: time.Minute}
}

// boots tests start a machine, which only happens where EnvBoot allows it.
func boots(t *testing.T) {
	t.Helper()
	if os.Getenv(EnvBoot) == "" {
		t.Skipf("starts a virtual machine: set %s=1", EnvBoot)
	}
}

func TestBootRunsStepsAsRootAndAsUser(t *testing.T) {
	boots(t)
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, []byte("from the host\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	result := Run(t, Linux61, Job{Files: map[string]string{"data/file": file}, Steps: []Step{
		shell("root", "id -u; cat /payload/data/file", false), shell("user", "id -u; uname -r", true),
	}})
	if got := string(result.Report.Steps[0].Output); got != "0\nfrom the host\n" {
		t.Errorf("root's step printed %q", got)
	}
	if got := string(result.Report.Steps[1].Output); !strings.HasPrefix(got, "1000\n6.1.") {
		t.Errorf("the user's step printed %q", got)
	}
	t.Logf("%s: %.1fs from boot to result", result.Machine, result.Took.Seconds())
}

// TestBootReportsFailuresHangsAndLeftovers: one machine, all that can go wrong with
// a step, and a step after each that shows that the machine goes on.
func TestBootReportsFailuresHangsAndLeftovers(t *testing.T) {
	boots(t)
	hang := shell("hangs", "echo before; sleep 1000", false)
	hang.Deadline = 3 * time.Second
	result := Try(t, Linux61, Job{Steps: []Step{
		shell("fails", "echo words of failure; exit 7", false),
		hang,
		shell("leaves", "sleep 1001 & echo left", true),
		shell("sees", "ps -eo args | grep -c '[s]leep 100'", false),
		{Name: "none", Argv: []string{"/nonexistent"}, Deadline: time.Minute},
	}})
	want := map[string]string{
		"fails":  "fails: exit status 7 | words of failure",
		"hangs":  "hangs: hung: killed at its deadline of 3s | before",
		"leaves": "leaves: left a process behind that holds its output open | left",
		"sees":   "sees: exit status 1 | 0", // grep found none: what was left is gone
		"none":   "none: exec: \"/nonexistent\": stat /nonexistent: no such file or directory | ",
	}
	for _, p := range result.Problems() {
		got := p.String() + " | " + strings.TrimSpace(string(p.Output))
		if got != want[p.Step] && p.Step != "none" {
			t.Errorf("problem %q, want %q", got, want[p.Step])
		}
		delete(want, p.Step)
	}
	if len(want) != 0 {
		t.Errorf("not reported: %v", want)
	}
}

func TestBootOfMachineThatPanicsShowsItsConsole(t *testing.T) {
	boots(t)
	result := Try(t, Linux61, Job{Steps: []Step{shell("panics", "echo 1 >/proc/sys/kernel/sysrq; sync; echo c >/proc/sysrq-trigger; sleep 100", false)}})
	problems := result.Problems()
	if len(problems) == 0 || problems[0].Text != "never ended" {
		t.Fatalf("problems %v", problems)
	}
	if console := problems[len(problems)-1]; !strings.Contains(string(console.Output), "sysrq triggered crash") {
		t.Errorf("console shows %q", console.Output)
	}
}

func TestBootWithSystemdDelegatesToTheUser(t *testing.T) {
	boots(t)
	result := Run(t, Linux61, Job{Init: Systemd, Steps: []Step{
		shell("user", `d=/sys/fs/cgroup$(cut -d: -f3 /proc/self/cgroup) && mkdir $d/mine && echo $d`, true),
	}})
	if got := string(result.Report.Steps[0].Output); !strings.HasPrefix(got, "/sys/fs/cgroup/user.slice/user-1000.slice/user@1000.service/") {
		t.Errorf("the user's cgroup is %q", got)
	}
}
