package vm

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/sallyport/sallyport/testvm/internal/image"
	"github.com/sallyport/sallyport/testvm/internal/machine"
	"github.com/sallyport/sallyport/testvm/internal/report"
)

// How long a machine may be silent where no step's deadline says so.
const (
	bootTime = 6 * time.Minute  // until the job begins: systemd without KVM on a busy host
	slack    = 30 * time.Second // beyond a step's deadline, which the guest enforces itself
)

// Result is what became of a job.
type Result struct {
	Machine machine.Machine
	Kernel  image.Kernel
	Accel   Accel
	Job     report.Job
	Report  report.Report
	Stalled string          // what the machine was waited for in vain; empty: it powered off
	Took    time.Duration   // from starting qemu to its end
	CPU     time.Duration   // that qemu used
	StepCPU []time.Duration // of it, by step
	Console []byte
	QEMU    string // qemu's own complaints
}

// Problems says why the job did not pass; none if and only if all of it did.
func (r Result) Problems() []report.Problem {
	problems := r.Report.Problems(r.Job)
	if r.Stalled != "" {
		problems = append(problems, report.Problem{Text: "killed: waited in vain for " + r.Stalled})
	}
	if r.Report.Release != "" && r.Report.Release != r.Kernel.Release {
		problems = append(problems, report.Problem{
			Text: fmt.Sprintf("the machine runs kernel %s, not %s", r.Report.Release, r.Kernel.Release)})
	}
	if !r.Report.Done {
		problems = append(problems, report.Problem{Text: "console", Output: append(lastLines(r.Console, 100), r.QEMU...)})
	}
	return problems
}

// Images are what machines start from: an image.Cache.
type Images interface {
	Kernel(machine.Kernel) (image.Kernel, error)
	Root() (string, error)
}

// Runner runs jobs.
type Runner struct {
	Images  Images
	Dir     string                          // for the files of a run
	Observe func(report.Job, report.Record) // every record as it comes; may be nil
}

// Run starts a machine, lets it do its steps, and returns when it is gone. Steps
// that the machine cannot judge are left out: see JobFor.
func (r Runner) Run(ctx context.Context, m machine.Machine, payload string, steps []report.Step) (Result, error) {
	result := Result{Machine: m, Job: JobFor(m, steps)}
	c, err := r.prepare(ctx, m, payload)
	if err != nil {
		return result, err
	}
	dir, err := os.MkdirTemp(r.Dir, "run-")
	if err != nil {
		return result, fmt.Errorf("make folder: %w", err)
	}
	defer os.RemoveAll(dir)
	c.console = filepath.Join(dir, "console")
	job := filepath.Join(dir, "job")
	if err := writeJob(job, result.Job); err != nil {
		return result, err
	}
	c.disks = append(c.disks, disk{job, true})
	result.Kernel, result.Accel = c.kernel, c.accel
	begun := time.Now()
	err = r.follow(ctx, c, &result)
	result.Took = time.Since(begun)
	console, _ := os.ReadFile(c.console)
	result.Console = bytes.ReplaceAll(console, []byte("\r"), nil)
	return result, err
}

// JobFor is the job of a machine: the steps it can judge, and how to start them.
func JobFor(m machine.Machine, steps []report.Step) report.Job {
	session := m.Init == machine.Systemd
	job := report.Job{Machine: m.String(), Env: m.Guest().Env(), Systemd: session, UserWrap: m.Boot.UserWrap}
	for _, s := range steps {
		folder, _, _ := strings.Cut(s.Name, " ")
		switch {
		case m.Boot.UserOnly && !s.User:
		case !s.On.Holds(session), s.Kernel != "" && s.Kernel != m.Kernel.Name:
		case s.Tests && len(m.Boot.Packages) > 0 && !slices.Contains(m.Boot.Packages, folder):
		default:
			job.Steps = append(job.Steps, s)
		}
	}
	return job
}

func (r Runner) prepare(ctx context.Context, m machine.Machine, payload string) (config, error) {
	if err := image.NeedQEMU(); err != nil {
		return config{}, err
	}
	kernel, err := r.Images.Kernel(m.Kernel)
	if err != nil {
		return config{}, fmt.Errorf("get kernel %s: %w", m.Kernel.Name, err)
	}
	root, err := r.Images.Root()
	if err != nil {
		return config{}, fmt.Errorf("get root file system: %w", err)
	}
	accel, err := ChooseAccel(ctx, r.Dir, kernel)
	if err != nil {
		return config{}, fmt.Errorf("choose accelerator: %w", err)
	}
	disks := []disk{{root, false}, {kernel.Modules, true}, {payload, false}}
	return config{accel: accel, kernel: kernel, params: params(m), disks: disks}, nil
}

// writeJob writes a job as a disk: whole sectors.
func writeJob(path string, job report.Job) error {
	data, err := json.Marshal(job)
	if err != nil {
		return fmt.Errorf("encode job: %w", err)
	}
	const sector = 512
	data = append(data, bytes.Repeat([]byte{'\n'}, sector-len(data)%sector)...)
	if err := os.WriteFile(path, data, 0o644); err != nil {
		return fmt.Errorf("write job: %w", err)
	}
	return nil
}

// follow starts qemu and reads its reports; a machine that is silent for longer
// than its step may be is killed.
func (r Runner) follow(parent context.Context, c config, result *Result) error {
	ctx, cancel := context.WithCancel(parent)
	defer cancel()
	w := newWatchdog(result.Job, cancel)
	reports, out := io.Pipe()
	var complaints bytes.Buffer
	ended := make(chan error, 1)
	var pid atomic.Int64
	go func() {
		var err error
		result.CPU, err = start(ctx, c, out, &complaints, func(p int) { pid.Store(int64(p)) })
		out.Close()
		ended <- err
	}()
	result.StepCPU = make([]time.Duration, len(result.Job.Steps))
	rep, err := report.Parse(reports, result.Job, func(rec report.Record) {
		w.saw(rec)
		rec.CPU = cpuOf(int(pid.Load()))
		switch rec.Kind {
		case report.KindStart:
			result.StepCPU[rec.Step] -= rec.CPU
		case report.KindEnd:
			result.StepCPU[rec.Step] += rec.CPU
		}
		if r.Observe != nil {
			r.Observe(result.Job, rec)
		}
	})
	if err != nil { // too long a line: nothing more can be read
		cancel()
		reports.CloseWithError(err)
	}
	for i, step := range rep.Steps {
		if !step.Ended {
			result.StepCPU[i] = 0
		}
	}
	ran := <-ended
	result.Report, result.Stalled, result.QEMU = rep, w.stop(), complaints.String()
	switch {
	case parent.Err() != nil:
		return parent.Err()
	case result.Stalled != "":
		return err
	}
	return errors.Join(err, ran)
}

// start runs qemu to its end, at a low priority, as a child that dies with this
// process: PDEATHSIG follows the thread, which is kept for as long. It says how
// much processor time that took.
func start(ctx context.Context, c config, out, complaints io.Writer, started func(pid int)) (time.Duration, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd := exec.CommandContext(ctx, "nice", append([]string{"qemu-system-x86_64"}, c.args()...)...)
	cmd.Stdout, cmd.Stderr, cmd.SysProcAttr = out, complaints, DieWithParent()
	cmd.WaitDelay = 5 * time.Second
	// At the end of its input qemu takes the port for closed, and writes to it block.
	in, err := cmd.StdinPipe()
	if err != nil {
		return 0, fmt.Errorf("run qemu: %w", err)
	}
	defer in.Close()
	if err = cmd.Start(); err == nil {
		started(cmd.Process.Pid)
		err = cmd.Wait()
	}
	var used time.Duration
	if cmd.ProcessState != nil {
		used = cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	}
	if err != nil {
		return used, fmt.Errorf("run qemu: %w\n%s", err, complaints)
	}
	return used, nil
}

func lastLines(b []byte, n int) []byte {
	lines := bytes.SplitAfter(b, []byte("\n"))
	if len(lines) > n {
		lines = lines[len(lines)-n:]
	}
	return bytes.Join(lines, nil)
}
