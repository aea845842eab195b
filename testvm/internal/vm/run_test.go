package vm

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/testvm/internal/image"
	"github.com/sallyport/sallyport/testvm/internal/machine"
	"github.com/sallyport/sallyport/testvm/internal/report"
)

func TestWriteJobFillsWholeSectors(t *testing.T) {
	for n := range 1100 {
		path := filepath.Join(t.TempDir(), "job")
		want := report.Job{Machine: strings.Repeat("m", n)}
		if err := writeJob(path, want); err != nil {
			t.Fatal(err)
		}
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var got report.Job
		if err := json.NewDecoder(bytes.NewReader(data)).Decode(&got); err != nil || got.Machine != want.Machine {
			t.Fatalf("read back %+v, %v", got, err)
		}
		if len(data)%512 != 0 || len(data) == 0 {
			t.Fatalf("%d bytes", len(data))
		}
	}
}

// fakeQEMU puts a script in qemu's place.
func fakeQEMU(t *testing.T, script string) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "qemu-system-x86_64"), []byte("#!/bin/sh\n"+script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
}

var oneStep = report.Job{Steps: []report.Step{{Name: "one", Deadline: time.Minute}}}

func follow(t *testing.T, ctx context.Context) (Result, error) {
	t.Helper()
	result := Result{Job: oneStep, Kernel: image.Kernel{Release: "6.1.0"}}
	c := sample(TCG)
	c.console = filepath.Join(t.TempDir(), "console")
	err := Runner{}.follow(ctx, c, &result)
	return result, err
}

const goodReport = `echo '{"kind":"boot","release":"6.1.0"}'; echo '{"kind":"start"}'; echo '{"kind":"end"}'; echo '{"kind":"done"}'`

func TestFollowReadsReportsOfAMachineThatPasses(t *testing.T) {
	fakeQEMU(t, goodReport)
	result, err := follow(t, t.Context())
	if err != nil || len(result.Problems()) != 0 || result.Stalled != "" {
		t.Errorf("problems %v, %v", result.Problems(), err)
	}
}

func TestMachineThatDiesShowsItsConsole(t *testing.T) {
	fakeQEMU(t, `echo '{"kind":"boot","release":"6.1.0"}'; echo '{"kind":"start"}'`)
	result, err := follow(t, t.Context())
	if err != nil {
		t.Fatal(err)
	}
	result.Console = []byte("Kernel panic - not syncing\n")
	problems := result.Problems()
	if last := problems[len(problems)-1]; last.Text != "console" || !strings.Contains(string(last.Output), "Kernel panic") {
		t.Errorf("problems %v", problems)
	}
}

func TestQEMUThatFailsIsAnErrorWithItsComplaint(t *testing.T) {
	fakeQEMU(t, `echo 'no such drive' >&2; exit 1`)
	if _, err := follow(t, t.Context()); err == nil || !strings.Contains(err.Error(), "no such drive") {
		t.Errorf("follow = %v", err)
	}
}

func TestMachineOfAnotherKernelFails(t *testing.T) {
	fakeQEMU(t, strings.Replace(goodReport, "6.1.0", "6.1.1", 1))
	result, err := follow(t, t.Context())
	if err != nil || len(result.Problems()) != 1 {
		t.Errorf("problems %v, %v", result.Problems(), err)
	}
}

func TestCancelledRunLeavesNoMachine(t *testing.T) {
	fakeQEMU(t, `echo $$ >"$TESTVM_PID"; exec sleep 1000`)
	pidFile := filepath.Join(t.TempDir(), "pid")
	t.Setenv("TESTVM_PID", pidFile)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		for {
			if data, _ := os.ReadFile(pidFile); len(data) > 1 {
				cancel()
				return
			}
			time.Sleep(time.Millisecond)
		}
	}()
	if _, err := follow(t, ctx); err != context.Canceled {
		t.Errorf("follow = %v", err)
	}
	pid, _ := os.ReadFile(pidFile)
	if _, err := os.Stat("/proc/" + strings.TrimSpace(string(pid))); err == nil {
		t.Errorf("machine %s is still there", pid)
	}
}

func TestWatchdogKillsWhatStalls(t *testing.T) {
	killed := make(chan struct{})
	w := newWatchdog(oneStep, func() { close(killed) })
	w.saw(report.Record{Kind: report.KindStart})
	w.timer.Reset(time.Millisecond)
	<-killed
	if got := w.stop(); got != "the end of one" {
		t.Errorf("waited in vain for %q", got)
	}
	r := Result{Job: oneStep, Stalled: "the end of one", Report: report.Report{Steps: make([]report.Outcome, 1)}}
	if !strings.Contains(r.Problems()[2].String(), "killed: waited in vain for the end of one") {
		t.Errorf("problems %v", r.Problems())
	}
}

func TestNextKnowsWhatToWaitFor(t *testing.T) {
	for kind, want := range map[string]time.Duration{
		report.KindBoot: slack, report.KindStart: time.Minute + slack, report.KindOutput: 0, report.KindEnd: slack, report.KindDone: slack,
	} {
		what, patience := next(oneStep, report.Record{Kind: kind})
		if patience != want || (what == "") != (want == 0) {
			t.Errorf("after %s: %q within %s, want within %s", kind, what, patience, want)
		}
	}
}

func TestRecallHoldsForOneBoot(t *testing.T) {
	memo := filepath.Join(t.TempDir(), "accel")
	tests := map[string]struct {
		text string
		want Accel
		ok   bool
	}{
		"same boot":    {"tcg boot-1\n", TCG, true},
		"another boot": {"kvm boot-0\n", "", false},
		"rubbish":      {"hvf boot-1\n", "", false},
		"cut short":    {"kvm", "", false},
		"empty":        {"", "", false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if err := os.WriteFile(memo, []byte(tt.text), 0o644); err != nil {
				t.Fatal(err)
			}
			if got, ok := recall(memo, "boot-1\n"); got != tt.want || ok != tt.ok {
				t.Errorf("recall = %q, %t", got, ok)
			}
		})
	}
	if _, ok := recall(memo+"x", "boot-1"); ok {
		t.Error("recalled what was never written")
	}
}

func TestAccelNamedByTheEnvironmentSparesTheTrial(t *testing.T) {
	dir := t.TempDir()
	for name, ok := range map[string]bool{"kvm": true, "tcg": true, "hvf": false} {
		t.Setenv(EnvAccel, name)
		got, err := ChooseAccel(t.Context(), dir, image.Kernel{})
		if (err == nil) != ok || string(got) != name {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}

func TestKernelOfTheTableIsNotAMachine(t *testing.T) {
	if _, err := machine.Parse(machine.Linux61.Name); err == nil {
		t.Error("a kernel alone says not how it is started")
	}
}
