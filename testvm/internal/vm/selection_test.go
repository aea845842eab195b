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
	for rel, parts := range table {
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
		names := map[string]bool{}
		for _, p := range parts {
			if names[p.name(rel)] {
				t.Errorf("two steps are called %s", p.name(rel))
			}
			names[p.name(rel)] = true
			for _, pattern := range p.files {
				if found, err := filepath.Glob(filepath.Join(module, rel, pattern)); err != nil || len(found) == 0 {
					t.Errorf("%s: %s matches no file, %v", rel, pattern, err)
				}
			}
			for _, expression := range slices.Concat(p.only, p.not) {
				test, _, _ := strings.Cut(expression, "/")
				if !slices.ContainsFunc(all, regexp.MustCompile("^"+test+"$").MatchString) {
					t.Errorf("%s: %s matches no test", rel, expression)
				}
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
	files := part{only: []string{"TestD/sub.*"}, files: []string{"a_*.go", "b_*.go"}, not: []string{"TestE"}}
	for want, p := range map[string]part{
		"-test.run=^TestD$/^sub.*$|^TestA$|^FuzzC$ -test.skip=^TestE$": files,
		"-test.skip=^TestE$|^Test.*$/^as=.*$":                          {not: []string{"TestE", "Test.*/as=.*"}},
		"":                                                             {},
	} {
		flags, err := p.flags(dir)
		if got := strings.Join(flags, " "); err != nil || got != want {
			t.Errorf("flags %s, %v, want %s", got, err, want)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "b_test.go"), []byte("no Go"), 0o644); err != nil {
		t.Fatal(err)
	}
	if flags, err := files.flags(dir); err == nil {
		t.Errorf("a file that is no Go: %q", flags)
	}
}

func TestPartsOfAPackageBecomeSteps(t *testing.T) {
	defer func(real map[string][]part) { table = real }(table)
	table = map[string][]part{"some": {{on: report.Plain, not: []string{"TestE"}}, {user: true, as: ", apart", env: []string{"A=b"}}}}
	for name, tt := range map[string]struct {
		rel  string
		sel  Selection
		want []string
	}{
		"in the table":     {"some", Selection{}, []string{"some as root on plain -test.skip=^TestE$", "some as user, apart on  A=b"}},
		"all of it":        {"some", Selection{All: true}, []string{"some as root on ", "some as user on "}},
		"not in the table": {".", Selection{Short: true}, []string{"sallyport as root on  -test.short", "sallyport as user on  -test.short"}},
	} {
		steps, err := testSteps(tt.rel, t.TempDir(), tt.sel)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, s := range steps {
			words := append([]string{s.Name, "on", string(s.On)}, s.Env[1:]...)
			got = append(got, strings.Join(append(words, s.Argv[3:]...), " "))
			if s.User != strings.Contains(s.Name, " as user") || !s.Tests {
				t.Errorf("%s: %+v", name, s)
			}
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("%s: steps %q, want %q", name, got, tt.want)
		}
	}
}

func TestJobForTakesWhatTheMachineCanJudge(t *testing.T) {
	steps := append(SurveySteps(), report.Step{Name: "sandbox as root", Tests: true, On: report.Plain}, report.Step{Name: "sandbox as user", Tests: true, On: report.Session, User: true},
		report.Step{Name: "proxy as root", Tests: true, Kernel: "5.10"}, report.Step{Name: "testvm/selftest as root", Tests: true}, report.Step{Name: "testvm/selftest as user", Tests: true, User: true})
	for name, want := range map[string]string{
		"5.10-plain":         "survey as root, survey as user, sandbox as root, proxy as root, testvm/selftest as root, testvm/selftest as user",
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
