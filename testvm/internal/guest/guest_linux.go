package guest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/testvm/internal/report"
)

// Where a machine finds its job and puts its report, unless told otherwise.
const (
	JobDevice = "/dev/vdd"
	PortName  = "report"
)

const (
	ordinaryUID = 1000
	grace       = 5 * time.Second // between asking a hung step for its stacks and killing it
)

// ReadJob reads a job, padded or not.
func ReadJob(path string) (report.Job, error) {
	var job report.Job
	f, err := os.Open(path)
	if err != nil {
		return job, fmt.Errorf("open job: %w", err)
	}
	defer f.Close()
	if err := json.NewDecoder(f).Decode(&job); err != nil {
		return job, fmt.Errorf("decode job %s: %w", path, err)
	}
	return job, nil
}

// OpenPort opens the virtio-serial port that the harness listens at.
func OpenPort() (*os.File, error) {
	names, _ := filepath.Glob("/sys/class/virtio-ports/*/name")
	for _, name := range names {
		if b, _ := os.ReadFile(name); strings.TrimSpace(string(b)) != PortName {
			continue
		}
		port := filepath.Join("/dev", filepath.Base(filepath.Dir(name)))
		return os.OpenFile(port, os.O_WRONLY, 0)
	}
	return nil, fmt.Errorf("find virtio port %q: none of %d", PortName, len(names))
}

// Run runs the steps of a job as root and reports on each. An error means that
// the report cannot be trusted to be whole, not that a step failed.
func Run(ctx context.Context, job report.Job, to io.Writer) error {
	w := report.NewWriter(to)
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return fmt.Errorf("uname: %w", err)
	}
	if err := w.Write(report.Record{Kind: report.KindBoot, Release: unix.ByteSliceToString(name.Release[:])}); err != nil {
		return err
	}
	passwd, err := os.ReadFile("/etc/passwd")
	if err != nil {
		return fmt.Errorf("read users: %w", err)
	}
	ordinary, err := findUser(string(passwd), ordinaryUID)
	if err != nil {
		return err
	}
	for i, step := range job.Steps {
		if err := w.Write(report.Record{Kind: report.KindStart, Step: i}); err != nil {
			return err
		}
		end := run(ctx, plan(job, i, ordinary), step.Deadline, output{w, i})
		end.Kind, end.Step = report.KindEnd, i
		if err := w.Write(end); err != nil {
			return err
		}
	}
	return w.Write(report.Record{Kind: report.KindDone})
}

// output reports what a step prints.
type output struct {
	w    *report.Writer
	step int
}

func (o output) Write(p []byte) (int, error) {
	return len(p), o.w.Write(report.Record{Kind: report.KindOutput, Step: o.step, Output: p})
}

// run runs one step to its end or its deadline and sweeps up after it.
func run(ctx context.Context, c command, deadline time.Duration, out io.Writer) report.Record {
	ctx, cancel := context.WithTimeout(ctx, deadline)
	defer cancel()
	cmd := exec.CommandContext(ctx, c.argv[0], c.argv[1:]...)
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = c.dir, c.env, out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if c.as.UID != 0 {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: c.as.UID, Gid: c.as.GID}
	}
	// A Go program answers SIGQUIT with the stacks of all its goroutines.
	cmd.Cancel = func() error { return quit(c, cmd.Process.Pid) }
	cmd.WaitDelay = grace
	begun := time.Now()
	err := cmd.Run()
	end := report.Record{Took: time.Since(begun), Hung: ctx.Err() != nil}
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		end.Exit = exitStatus(exit)
	case errors.Is(err, exec.ErrWaitDelay) && !end.Hung:
		end.Error = "left a process behind that holds its output open"
	case err != nil:
		end.Error = err.Error()
	}
	sweep(c)
	return end
}

// exitStatus is a shell's: 128 and the signal for what a signal killed.
func exitStatus(exit *exec.ExitError) int {
	if ws, ok := exit.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		return 128 + int(ws.Signal())
	}
	return exit.ExitCode()
}

func quit(c command, pid int) error {
	if c.unit != "" {
		return systemctl(c, "QUIT")
	}
	return syscall.Kill(-pid, syscall.SIGQUIT)
}

// sweep kills what a step left. Without a service manager, everything but this
// process and init is a step's.
func sweep(c command) {
	if c.unit != "" {
		_ = systemctl(c, "KILL") // fails if, as it should be, the unit is gone
	} else if inPlainVM() {
		_ = syscall.Kill(-1, syscall.SIGKILL) // fails if nothing is left
	}
}

// inPlainVM reports whether init started this process and nothing else: kill(-1)
// anywhere else would be a disaster.
func inPlainVM() bool {
	cmdline, err := os.ReadFile("/proc/cmdline")
	return err == nil && os.Getppid() == 1 && strings.Contains(string(cmdline), " init=/vm/init ")
}

func systemctl(c command, signal string) error {
	argv := c.signal(signal)
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env = c.env
	if c.as.UID != 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: c.as.UID, Gid: c.as.GID}}
	}
	return cmd.Run()
}
