package vm

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/testvm/internal/machine"
	"github.com/sallyport/sallyport/testvm/internal/report"
)

const module = "../../.."

// TestEverythingLeftOutIsThere: a name that matches nothing hides a test that is run.
func TestEverythingLeftOutIsThere(t *testing.T) {
	for rel, s := range scopes {
		dir := filepath.Join(module, rel)
		files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: %d test files, %v", rel, len(files), err)
		}
		var all []string
		for _, f := range files {
			names, err := testsIn(f)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, names...)
		}
		for _, expression := range s.tests {
			test, _, _ := strings.Cut(expression, "/")
			matches := regexp.MustCompile("^" + test + "$").MatchString
			if !slices.ContainsFunc(all, matches) {
				t.Errorf("%s: %s matches no test", rel, expression)
			}
		}
		flags, err := Selection{}.flags(rel, dir)
		if err != nil || len(flags) != 1 {
			t.Fatalf("%s: flags %q, %v", rel, flags, err)
		}
		skip := strings.Split(strings.TrimPrefix(flags[0], "-test.skip="), "|")
		if left := len(all) - len(skip); left < 1 {
			t.Errorf("%s: nothing of %d tests is run", rel, len(all))
		}
	}
}

func TestFlagsNameTheTestsOfFiles(t *testing.T) {
	dir := t.TempDir()
	source := "package x\nfunc TestMain() {}\nfunc TestA() {}\nfunc helper() {}\nfunc (x) TestB() {}\nfunc FuzzC() {}\n"
	if err := os.WriteFile(filepath.Join(dir, "a_test.go"), []byte(source), 0o644); err != nil {
		t.Fatal(err)
	}
	scopes["x"] = scope{files: []string{"a_test.go"}, tests: []string{"TestD/sub.*"}}
	defer delete(scopes, "x")
	flags, err := Selection{}.flags("x", dir)
	if want := "-test.skip=^TestD$/^sub.*$|^TestA$|^FuzzC$"; err != nil || len(flags) != 1 || flags[0] != want {
		t.Errorf("flags %q, %v, want %s", flags, err, want)
	}
	if flags, err := (Selection{All: true}).flags("x", dir); err != nil || len(flags) != 0 {
		t.Errorf("all: %q, %v", flags, err)
	}
	if flags, err := (Selection{}).flags("x", t.TempDir()); err == nil {
		t.Errorf("a file that is gone: %q", flags)
	}
}

func TestJobForTakesWhatTheMachineCanJudge(t *testing.T) {
	steps := append(SurveySteps(), report.Step{Name: "sandbox as root", Tests: true, Once: true}, report.Step{Name: "sandbox as user", Tests: true, Once: true, User: true},
		report.Step{Name: "testvm/selftest as root", Tests: true}, report.Step{Name: "testvm/selftest as user", Tests: true, User: true})
	for name, want := range map[string]string{
		"6.1-plain":          "survey as root, survey as user, sandbox as root, testvm/selftest as root, testvm/selftest as user",
		"6.1-systemd":        "survey as root, survey as user, sandbox as user, testvm/selftest as root, testvm/selftest as user",
		"6.1-plain-nouserns": "survey as root, survey as user, testvm/selftest as root, testvm/selftest as user",
		"6.1-plain-apparmor": "survey as user, testvm/selftest as user",
	} {
		m, err := machine.Parse(name)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, s := range JobFor(m, steps).Steps {
			got = append(got, s.Name)
		}
		if strings.Join(got, ", ") != want {
			t.Errorf("%s: %s", name, strings.Join(got, ", "))
		}
	}
}
