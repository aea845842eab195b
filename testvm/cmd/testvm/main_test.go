package main

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/testvm/internal/machine"
	"github.com/sallyport/sallyport/testvm/internal/report"
)

// stdout runs f and gives what it printed.
func stdout(t *testing.T, f func()) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "out")
	out, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	real := os.Stdout
	os.Stdout = out
	defer func() { os.Stdout = real }()
	f()
	out.Close()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestExitStatuses(t *testing.T) {
	t.Setenv("SALLYPORT_TESTVM_CACHE", t.TempDir())
	tests := map[string]struct {
		args []string
		want int
	}{
		"no command":            {nil, 2},
		"unknown command":       {[]string{"dance"}, 2},
		"unknown flag":          {[]string{"matrix", "-dance"}, 2},
		"unknown machine":       {[]string{"test", "4.4-plain"}, 2},
		"no machine":            {[]string{"test"}, 2},
		"nothing to run":        {[]string{"run", "6.1-plain"}, 2},
		"run where":             {[]string{"run", "4.4-plain", "true"}, 2},
		"a box nobody can make": {[]string{"vagrant", "fedora"}, 2},
		"no package":            {[]string{"packages"}, 2},
		"no such box":           {[]string{"packages", "-deb", "x.deb", "debian99"}, 2},
		"payload without place": {[]string{"payload"}, 2},
		"no job":                {[]string{"guest", "-job", "/nonexistent"}, 1},
		"list":                  {[]string{"list"}, 0},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			stdout(t, func() {
				if got := execute(t.Context(), tt.args); got != tt.want {
					t.Errorf("exit status %d, want %d", got, tt.want)
				}
			})
		})
	}
}

func TestListNamesMachinesThatTestAccepts(t *testing.T) {
	names := strings.Fields(stdout(t, func() { execute(t.Context(), []string{"list"}) }))
	if machines, err := named(names, nil); err != nil || len(machines) != len(machine.Matrix()) {
		t.Errorf("%d machines, %v", len(machines), err)
	}
}

func TestNamedBoxes(t *testing.T) {
	for name, tt := range map[string]struct {
		names []string
		full  bool
		want  int
	}{"default": {nil, false, 1}, "full": {nil, true, 3}, "named": {[]string{"debian11"}, false, 1}} {
		if got, err := namedBoxes(tt.names, tt.full); err != nil || len(got) != tt.want {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
}

func TestGuestThatPrintsFailsWithItsJob(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "report")
	job := report.Job{Machine: "vagrant-debian12", Steps: []report.Step{{Name: "one"}}}
	var lines strings.Builder
	w := report.NewWriter(&lines)
	for _, r := range []report.Record{{Kind: report.KindStart}, {Kind: report.KindEnd, Exit: 4}, {Kind: report.KindDone}} {
		if err := w.Write(r); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(path, []byte(lines.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	var err error
	out := stdout(t, func() { err = printReport(path, job) })
	if !errors.Is(err, errFailed) || !strings.Contains(out, "one: exit status 4") {
		t.Errorf("printed %q, %v", out, err)
	}
}

func TestSurveyIsJSON(t *testing.T) {
	var found []map[string]any
	out := stdout(t, func() { execute(t.Context(), []string{"survey"}) })
	if err := json.Unmarshal([]byte(out), &found); err != nil || len(found) == 0 {
		t.Errorf("survey %q: %v", out, err)
	}
}
