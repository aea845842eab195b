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

// TestEverythingNamedIsThere: a name that matches nothing is a test that is run no more.
func TestEverythingNamedIsThere(t *testing.T) {
	for rel, s := range scopes {
		files, err := filepath.Glob(filepath.Join(module, rel, "*_test.go"))
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
		for _, expression := range slices.Concat(s.only, s.not) {
			test, _, _ := strings.Cut(expression, "/")
			if !slices.ContainsFunc(all, regexp.MustCompile("^"+test+"$").MatchString) {
				t.Errorf("%s: %s matches no test", rel, expression)
			}
		}
	}
}

func TestFlagsNameTestsAndThoseOfFiles(t *testing.T) {
	dir := t.TempDir()
	source := "package x\nfunc TestMain() {}\nfunc TestA() {}\nfunc helper() {}\nfunc (x) TestB() {}\nfunc FuzzC() {}\n"
	if err := os.WriteFile(filepath.Join(dir, "a_test.go"), []byte(source), 0o644); err != nil {
		t.Fatal(err)
	}
	defer func(real map[string]scope) { scopes = real }(scopes)
	scopes = map[string]scope{
		"files": {only: []string{"TestD/sub.*"}, files: []string{"a_*.go", "b_*.go"}, not: []string{"TestE"}},
		"not":   {not: []string{"TestE", "Test.*/as=.*"}},
	}
	for rel, want := range map[string]string{
		"files": "-test.run=^TestD$/^sub.*$|^TestA$|^FuzzC$ -test.skip=^TestE$",
		"not":   "-test.skip=^TestE$|^Test.*$/^as=.*$",
		"whole": "",
	} {
		flags, err := Selection{}.flags(rel, dir)
		if got := strings.Join(flags, " "); err != nil || got != want {
			t.Errorf("%s: flags %s, %v, want %s", rel, got, err, want)
		}
		if flags, err := (Selection{All: true}).flags(rel, dir); err != nil || len(flags) != 0 {
			t.Errorf("%s: all: %q, %v", rel, flags, err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "b_test.go"), []byte("no Go"), 0o644); err != nil {
		t.Fatal(err)
	}
	if flags, err := (Selection{}).flags("files", dir); err == nil {
		t.Errorf("a file that is no Go: %q", flags)
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
