package selftest

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/sallyport/sallyport/testvm"
)

const ordinaryUID = 1000

// sallyport runs the command line as the ordinary user, in a project of his.
func sallyport(t *testing.T, dir string, args ...string) (stderr string, status int) {
	t.Helper()
	var complaints bytes.Buffer
	cmd := inProject(dir, args...)
	cmd.Stderr = &complaints
	var exit *exec.ExitError
	if err := cmd.Run(); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return complaints.String(), cmd.ProcessState.ExitCode()
}

// inProject prepares a command line of the ordinary user's.
func inProject(dir string, args ...string) *exec.Cmd {
	cmd := exec.Command("/payload/bin/sallyport", args...)
	cmd.Dir = filepath.Join(dir, "project")
	if os.Geteuid() == 0 {
		cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir}
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: ordinaryUID, Gid: ordinaryUID}}
	}
	return cmd
}

// userHome is a home of the ordinary user's with a project in it.
func userHome(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/var/tmp", "testvm-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	project := filepath.Join(dir, "project")
	if err := errors.Join(os.Mkdir(project, 0o755), os.Chown(dir, ordinaryUID, ordinaryUID), os.Chown(project, ordinaryUID, ordinaryUID)); err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestACommandRunsOrItIsSaidWhyNot: on every machine, those included where no
// ordinary user makes a namespace.
func TestACommandRunsOrItIsSaidWhyNot(t *testing.T) {
	machine(t)
	g, err := testvm.Guest()
	if err != nil {
		t.Fatal(err)
	}
	dir := userHome(t)
	said, status := sallyport(t, dir, "run", "--", "touch", "started")
	_, err = os.Stat(filepath.Join(dir, "project", "started"))
	said2, healthy := sallyport(t, dir, "doctor")
	if !slices.Contains(g.Without, testvm.Userns) {
		if status != 0 || err != nil || healthy != 0 {
			t.Errorf("run ends with %d, doctor with %d, file: %v\n%s%s", status, healthy, err, said, said2)
		}
		return
	}
	if status != 125 || err == nil || healthy != 1 {
		t.Errorf("run ends with %d, doctor with %d, file: %v\n%s%s", status, healthy, err, said, said2)
	}
	if !strings.Contains(said, "namespaces: operation not permitted") || strings.Count(said, "sallyport: hint: ") != 1 {
		t.Errorf("run says %s", said)
	}
	t.Log(said)
}
