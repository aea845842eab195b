package vm

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/testvm/internal/report"
)

// stepsOf are those of a package that is not in the table.
func stepsOf(t *testing.T, rel string, sel Selection) []report.Step {
	t.Helper()
	steps, err := testSteps(rel, "/nonexistent", sel)
	if err != nil {
		t.Fatal(err)
	}
	return steps
}

func TestTestStepsRunAsBothUsers(t *testing.T) {
	steps := stepsOf(t, "internal/plan", Selection{Deadline: time.Minute})
	if len(steps) != 2 || steps[0].User || !steps[1].User {
		t.Fatalf("steps %+v", steps)
	}
	for _, s := range steps {
		if !s.Tests || s.Dir != "/payload/src/internal/plan" || s.Deadline != time.Minute || IsSurvey(s) || s.On != "" {
			t.Errorf("step %+v", s)
		}
	}
	if steps[0].Name == steps[1].Name {
		t.Error("both have one name")
	}
	top := stepsOf(t, ".", Selection{Short: true})[0]
	if top.Name != "sallyport as root" || !slices.Contains(top.Argv, "-test.short") || slices.Contains(steps[0].Argv, "-test.short") {
		t.Errorf("the module's own package: %+v", top)
	}
	for _, s := range SurveySteps() {
		if !IsSurvey(s) || s.Tests {
			t.Errorf("survey %+v", s)
		}
	}
}

func TestWhatTakesRootIsNotRunWithoutIt(t *testing.T) {
	steps, err := testSteps("loader", module+"/loader", Selection{})
	if err != nil || len(steps) != 1 || steps[0].User || steps[0].On != report.Plain {
		t.Errorf("steps %+v, %v", steps, err)
	}
}

func TestListPackagesWantsTests(t *testing.T) {
	got, err := listPackages(t.Context(), []string{"."})
	if err != nil || len(got) != 1 || !strings.HasSuffix(got[0].ImportPath, "testvm/internal/vm") {
		t.Errorf("listPackages = %+v, %v", got, err)
	}
	if got, err := listPackages(t.Context(), []string{"io/fs/nothing"}); err == nil {
		t.Errorf("listPackages of nothing = %+v", got)
	}
	if got, err := listPackages(t.Context(), []string{"unsafe"}); err == nil {
		t.Errorf("listPackages of a package without tests = %+v", got)
	}
}

func TestCopyFileKeepsModeAndLinks(t *testing.T) {
	dir := t.TempDir()
	from, link := filepath.Join(dir, "a"), filepath.Join(dir, "l")
	if err := os.WriteFile(from, []byte("x"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("a", link); err != nil {
		t.Fatal(err)
	}
	p := Payload{Dir: filepath.Join(dir, "tree")}
	for name, path := range map[string]string{"d/a": from, "d/l": link} {
		if err := p.AddFile(name, path); err != nil {
			t.Fatal(err)
		}
	}
	info, err := os.Stat(filepath.Join(p.Dir, "d/a"))
	if err != nil || info.Mode().Perm() != 0o744 {
		t.Errorf("mode %v, %v: an ordinary user has to read it", info.Mode(), err)
	}
	if target, err := os.Readlink(filepath.Join(p.Dir, "d/l")); err != nil || target != "a" {
		t.Errorf("link to %q, %v", target, err)
	}
}

func TestImageHoldsTheTree(t *testing.T) {
	if _, err := exec.LookPath("/sbin/debugfs"); err != nil {
		t.Skip("debugfs is not installed")
	}
	dir := t.TempDir()
	p := Payload{Dir: filepath.Join(dir, "tree")}
	if err := os.MkdirAll(filepath.Join(p.Dir, "bin"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(p.Dir, "bin/a"), []byte("hello"), 0o755); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "image")
	if err := p.Image(t.Context(), path); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("/sbin/debugfs", "-R", "cat /bin/a", path).Output()
	if err != nil || string(out) != "hello" {
		t.Errorf("image holds %q, %v", out, err)
	}
}
