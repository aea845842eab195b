package guest

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/testvm/internal/report"
)

// here is a command of this process's user.
func here(argv ...string) command {
	return command{argv: argv, env: []string{"PATH=" + systemPath}, dir: "/"}
}

func TestRunReportsOutputAndExitStatus(t *testing.T) {
	var out bytes.Buffer
	end := run(t.Context(), here("sh", "-c", "echo out; echo err >&2; exit 3"), time.Minute, &out)
	if end.Exit != 3 || end.Hung || end.Error != "" || end.Took <= 0 {
		t.Errorf("end = %+v", end)
	}
	if got := out.String(); got != "out\nerr\n" {
		t.Errorf("output %q", got)
	}
}

func TestRunReportsSignalAsShellsDo(t *testing.T) {
	if end := run(t.Context(), here("sh", "-c", "kill -KILL $$"), time.Minute, &bytes.Buffer{}); end.Exit != 137 {
		t.Errorf("end = %+v", end)
	}
}

func TestRunReportsWhatCannotBeStarted(t *testing.T) {
	if end := run(t.Context(), here("/nonexistent"), time.Minute, &bytes.Buffer{}); end.Error == "" {
		t.Errorf("end = %+v", end)
	}
}

func TestRunEndsWhatHangsAtItsDeadline(t *testing.T) {
	var out bytes.Buffer
	begun := time.Now()
	end := run(t.Context(), here("sh", "-c", "echo begun; sleep 1000"), 200*time.Millisecond, &out)
	if !end.Hung || time.Since(begun) > grace {
		t.Errorf("end = %+v after %s", end, time.Since(begun))
	}
	if out.String() != "begun\n" {
		t.Errorf("output %q", out.String())
	}
}

func TestRunAsksWhatHangsForItsStacks(t *testing.T) {
	var out bytes.Buffer
	end := run(t.Context(), here("sh", "-c", `trap 'echo stacks; exit 2' QUIT; while :; do sleep 0.01; done`), 200*time.Millisecond, &out)
	if !end.Hung || end.Exit != 2 || !strings.HasSuffix(out.String(), "stacks\n") {
		t.Errorf("end = %+v, output %q", end, out.String())
	}
}

func TestReadJob(t *testing.T) {
	path := filepath.Join(t.TempDir(), "job")
	write := func(s string) {
		if err := os.WriteFile(path, []byte(s), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write(`{"machine":"6.1-plain","steps":[{"name":"a","argv":["a"],"deadline":5}]}` + strings.Repeat("\n", 400))
	if job, err := ReadJob(path); err != nil || job.Machine != "6.1-plain" || job.Steps[0].Deadline != 5 {
		t.Errorf("ReadJob = %+v, %v", job, err)
	}
	write(`{"machine":`)
	if job, err := ReadJob(path); err == nil {
		t.Errorf("ReadJob of half a job = %+v", job)
	}
	if _, err := ReadJob(path + "x"); err == nil {
		t.Error("read a job that is not there")
	}
}

func TestRunOfJobIsAReportThatPasses(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("jobs are run by root")
	}
	job := report.Job{Steps: []report.Step{
		{Name: "one", Argv: []string{"true"}, Deadline: time.Minute},
		{Name: "two", Argv: []string{"false"}, Deadline: time.Minute},
	}}
	passwd, err := os.ReadFile("/etc/passwd")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := findUser(string(passwd), ordinaryUID); err != nil {
		t.Skipf("this host has no ordinary user: %v", err)
	}
	var b bytes.Buffer
	if err := Run(context.Background(), job, &b); err != nil {
		t.Fatal(err)
	}
	rep, err := report.Parse(&b, job, nil)
	if err != nil {
		t.Fatal(err)
	}
	if p := rep.Problems(job); len(p) != 1 || p[0].String() != "two: exit status 1" {
		t.Errorf("problems %v", p)
	}
}

func TestNoPortIsAnError(t *testing.T) {
	if _, err := os.Stat("/sys/class/virtio-ports"); err == nil {
		t.Skip("this host has virtio ports")
	}
	if _, err := OpenPort(); err == nil {
		t.Error("opened a port that is not there")
	}
}

func TestSweepSparesEverybodyOutsideAPlainVM(t *testing.T) {
	if inPlainVM() {
		t.Fatal("this is taken for a plain VM: sweep would kill everything")
	}
}

// TestUnitsAreSignalledThroughTheirManager: systemd-run and systemctl are played by
// scripts.
func TestUnitsAreSignalledThroughTheirManager(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"systemd-run": `for a; do [ "$a" != -- ] || break; done; echo $$ >"$DIR/pid"; exec sleep 1000`,
		"systemctl":   `echo "$@" >>"$DIR/asked"; case $* in *QUIT*) kill "$(cat "$DIR/pid")" ;; esac`,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+text+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	c := plan(report.Job{Systemd: true, Steps: []report.Step{{Argv: []string{"true"}}}}, 0, tester)
	c.env = append(c.env, "DIR="+dir)
	if end := run(t.Context(), c, 300*time.Millisecond, &bytes.Buffer{}); !end.Hung || end.Exit != 128+15 {
		t.Errorf("end = %+v", end)
	}
	asked, _ := os.ReadFile(filepath.Join(dir, "asked"))
	if want := "kill --signal=QUIT testvm-step-0.service\nkill --signal=KILL testvm-step-0.service\n"; string(asked) != want {
		t.Errorf("systemctl was asked %q, want %q", asked, want)
	}
}
