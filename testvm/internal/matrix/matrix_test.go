package matrix

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/testvm/internal/feature"
	"github.com/sallyport/sallyport/testvm/internal/machine"
	"github.com/sallyport/sallyport/testvm/internal/report"
	"github.com/sallyport/sallyport/testvm/internal/vm"
)

// job has the two surveys and one test binary, reported as told.
func reported(t *testing.T, survey, tests string, exit int) (report.Job, report.Report) {
	t.Helper()
	job := report.Job{Machine: "6.1-plain", Steps: append(vm.SurveySteps(), report.Step{Name: "sandbox as root", Tests: true})}
	rep := report.Report{Release: "6.1.0", Done: true, Steps: []report.Outcome{
		{Started: true, Ended: true, Output: []byte(survey)},
		{Started: true, Ended: true, Output: []byte(`[]`)},
		{Started: true, Ended: true, Output: []byte(tests), Exit: exit},
	}}
	return job, rep
}

const passes = "\x16=== RUN   TestA\n\x16--- PASS: TestA (0.00s)\n\x16=== RUN   TestB\n    a_test.go:3: too old\n\x16--- SKIP: TestB (0.00s)\nPASS\n"

func TestRowOfGoodRunIsShort(t *testing.T) {
	row := RowOf(reported(t, `[{"name":"userns","ok":true,"known":true}]`, passes, 0))
	if len(row.Root) != 1 || row.Root[0].Name != feature.Userns || !row.Root[0].OK {
		t.Errorf("root found %+v", row.Root)
	}
	if s := row.Steps[0]; s.Passed != 1 || s.Failed != 0 || len(s.Skipped) != 1 || s.Skipped[0].Reason != "too old" || !s.OK {
		t.Errorf("step %+v", s)
	}
	var out strings.Builder
	row.Print(&out)
	if !strings.HasPrefix(out.String(), "ok   6.1-plain") || strings.Count(out.String(), "\n") != 2 {
		t.Errorf("printed %q", out.String())
	}
	if Failed([]Row{row}) != 0 {
		t.Error("counted as failed")
	}
}

func TestRowOfFailedTestShowsItsOutput(t *testing.T) {
	row := RowOf(reported(t, `[]`, "\x16=== RUN   TestA\n    a_test.go:3: leaked 169.254.169.254\n\x16--- FAIL: TestA (0.00s)\nFAIL\n", 1))
	var out strings.Builder
	row.Print(&out)
	for _, want := range []string{"FAIL 6.1-plain", "sandbox as root: exit status 1, 1 of 1 tests failed", "leaked 169.254.169.254"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is not in %q", want, out.String())
		}
	}
	if Failed([]Row{row}) != 1 {
		t.Error("not counted as failed")
	}
}

func TestRowOfBrokenSurveyFails(t *testing.T) {
	row := RowOf(reported(t, `segmentation fault`, passes, 0))
	if Failed([]Row{row}) != 1 || !strings.Contains(row.Problems[0].String(), "survey as root") {
		t.Errorf("problems %v", row.Problems)
	}
}

func TestSurveyIsJudgedByWhatTheMachineShouldHave(t *testing.T) {
	const (
		landlock = `[{"name":"landlock","known":true,"detail":"ENOSYS"}]`
		lsm      = `[{"name":"bpf-lsm","ok":true,"known":true}]`
		unknown  = `[{"name":"mptcp","detail":"EIO"}]`
		noRoot   = `[{"name":"bpf-lsm","needs_root":true}]`
	)
	tests := map[string]struct {
		guest   feature.Guest
		release string
		survey  string
		want    string // empty: no complaint
	}{
		"missing on a new kernel":   {feature.Guest{Machine: "6.1-plain"}, "6.1.0", landlock, "landlock: not there: ENOSYS, though every kernel since 5.13"},
		"missing on an old kernel":  {feature.Guest{Machine: "5.10-plain"}, "5.10.0", landlock, ""},
		"missing outside":           {feature.Guest{}, "6.1.0", landlock, ""},
		"there, and should not be":  {feature.Guest{Machine: "m", Without: []feature.Name{feature.BPFLSM}}, "6.1.0", lsm, "and has it"},
		"the probe could not tell":  {feature.Guest{Machine: "m"}, "6.1.0", unknown, "could not probe: EIO"},
		"only root can tell":        {feature.Guest{Machine: "m"}, "6.1.0", noRoot, ""},
		"a kernel without a number": {feature.Guest{Machine: "m"}, "linux", noRoot, "parse kernel release"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			job, rep := reported(t, tt.survey, passes, 0)
			job.Env, rep.Release = tt.guest.Env(), tt.release
			row := RowOf(job, rep)
			var all []string
			for _, p := range row.Problems {
				all = append(all, p.String())
			}
			got := strings.Join(all, "\n")
			if !strings.Contains(got, tt.want) || (got == "") != (tt.want == "") {
				t.Errorf("problems %q, want %q", got, tt.want)
			}
		})
	}
}

func TestReportOfAnotherKernelFails(t *testing.T) {
	job, _ := reported(t, "", "", 0)
	path := filepath.Join(t.TempDir(), "report")
	var lines strings.Builder
	w := report.NewWriter(&lines)
	for i := range job.Steps {
		_ = w.Write(report.Record{Kind: report.KindStart, Step: i})
		out := `[]`
		if job.Steps[i].Tests {
			out = passes
		}
		_ = w.Write(report.Record{Kind: report.KindOutput, Step: i, Output: []byte(out)})
		_ = w.Write(report.Record{Kind: report.KindEnd, Step: i})
	}
	_ = w.Write(report.Record{Kind: report.KindBoot, Release: "6.1.0"})
	_ = w.Write(report.Record{Kind: report.KindDone})
	if err := os.WriteFile(path, []byte(lines.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	for release, want := range map[string]int{"6.1.0": 0, "6.1.1": 1} {
		var row Row
		if err := row.readFile(path, job, release, nil, nil); err != nil || len(row.Problems) != want {
			t.Errorf("report of 6.1.0 read as %s: %v, %v", release, row.Problems, err)
		}
	}
}

func TestMissingReportFailsWithWhatVagrantSaid(t *testing.T) {
	job, _ := reported(t, "", "", 0)
	var row Row
	err := row.readFile(filepath.Join(t.TempDir(), "report"), job, "6.1.0", nil, []byte("box not found"))
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	row.Print(&out)
	if Failed([]Row{row}) != 1 || !strings.Contains(out.String(), "box not found") {
		t.Errorf("printed %q", out.String())
	}
}

func TestJobsOfBoxes(t *testing.T) {
	p := vm.Payload{Dir: t.TempDir(), Steps: vm.SurveySteps()}
	if err := WriteJobs(p); err != nil {
		t.Fatal(err)
	}
	for _, b := range machine.Boxes {
		data, err := os.ReadFile(filepath.Join(p.Dir, "jobs", b.Name+".json"))
		if err != nil {
			t.Fatal(err)
		}
		var job report.Job
		if err := json.Unmarshal(data, &job); err != nil || !job.Systemd || len(job.Steps) != 2 {
			t.Errorf("job of %s: %+v, %v", b.Name, job, err)
		}
		if strict := len(job.Env) > 0; strict != b.Built() {
			t.Errorf("job of %s is strict: %t", b.Name, strict)
		}
	}
}

// TestVagrantfileAgreesWithTheTable: names and boxes are written in both.
func TestVagrantfileAgreesWithTheTable(t *testing.T) {
	data, err := os.ReadFile("../../Vagrantfile")
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range machine.Boxes {
		line := ""
		for _, l := range strings.Split(string(data), "\n") {
			if strings.Contains(l, `"`+b.Name+`"`) {
				line = l
			}
		}
		if !strings.Contains(line, `"libvirt" => "`+b.Public+`"`) {
			t.Errorf("%s is not %s for libvirt: %q", b.Name, b.Public, line)
		}
	}
	if n := strings.Count(string(data), `"libvirt" =>`); n != len(machine.Boxes) {
		t.Errorf("the Vagrantfile has %d machines, the table %d", n, len(machine.Boxes))
	}
}
