package matrix

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
	"regexp"
	"runtime"
	"time"

	"github.com/sallyport/sallyport/testvm/internal/image"
	"github.com/sallyport/sallyport/testvm/internal/machine"
	"github.com/sallyport/sallyport/testvm/internal/report"
	"github.com/sallyport/sallyport/testvm/internal/vm"
)

// vagrantTime is what Vagrant may take beside the steps: boxes boot from nothing
// and files are copied through ssh, without KVM all of it slowly.
const vagrantTime = 15 * time.Minute

// EnvPayload tells the Vagrantfile where the compiled tests are.
const EnvPayload = "SALLYPORT_TESTVM_PAYLOAD"

// BoxJob is the job of a machine of the Vagrantfile, which has a session.
func BoxJob(b machine.Box, steps []report.Step) report.Job {
	job := report.Job{Machine: b.Name, Systemd: true}
	for _, s := range steps {
		if s.On.Holds(true) && (s.Kernel == "" || s.Kernel == b.Kernel.Name) {
			job.Steps = append(job.Steps, s)
		}
	}
	if g := b.Guest(); g.Inside() {
		job.Env = g.Env()
	}
	return job
}

// WriteJobs puts the jobs of all machines of the Vagrantfile into a payload.
func WriteJobs(p vm.Payload) error {
	dir := filepath.Join(p.Dir, "jobs")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("make folder of jobs: %w", err)
	}
	for _, b := range machine.Boxes {
		data, err := json.MarshalIndent(BoxJob(b, p.Steps), "", "  ")
		if err != nil {
			return fmt.Errorf("encode job: %w", err)
		}
		if err := os.WriteFile(filepath.Join(dir, b.Name+".json"), data, 0o644); err != nil {
			return fmt.Errorf("write job: %w", err)
		}
	}
	return nil
}

// Vagrant runs the tests through Vagrant, on boxes built here under their public
// names, each with a libvirtd that nobody else sees.
type Vagrant struct {
	Cache  image.Cache
	Folder string // of the Vagrantfile
}

// Run takes one box up, through its tests, and down again.
func (v Vagrant) Run(ctx context.Context, b machine.Box, p vm.Payload) (Row, error) {
	row := Row{Machine: "vagrant-" + b.Name, Kernel: b.Kernel.Name, Lacks: b.Kernel.Lacks}
	home, err := v.Cache.BoxHome(b)
	if err != nil {
		return row, err
	}
	kernel, err := v.Cache.Kernel(b.Kernel)
	if err != nil {
		return row, err
	}
	accel, err := vm.ChooseAccel(ctx, v.Cache.Dir, kernel)
	if err != nil {
		return row, err
	}
	state, err := os.MkdirTemp(v.Cache.Dir, "vagrant-")
	if err != nil {
		return row, fmt.Errorf("make folder: %w", err)
	}
	defer os.RemoveAll(state)
	job := BoxJob(b, p.Steps)
	begun := time.Now()
	var said bytes.Buffer
	ran := v.start(ctx, b, job, &said, state,
		"VAGRANT_HOME="+home, EnvPayload+"="+p.Dir, vm.EnvAccel+"="+string(accel))
	row.Took = time.Since(begun)
	if ctx.Err() != nil {
		return row, ctx.Err()
	}
	return row, row.readFile(filepath.Join(state, "report"), job, kernel.Release, ran, progress.ReplaceAll(said.Bytes(), nil))
}

// progress is what Vagrant says a thousand times while it copies a box.
var progress = regexp.MustCompile(`\r?(\x1b\[K)?Progress: \d+%`)

// start runs Vagrant and libvirtd in namespaces that die with this process.
func (v Vagrant) start(ctx context.Context, b machine.Box, job report.Job, out io.Writer, state string, env ...string) error {
	runtime.LockOSThread() // PDEATHSIG follows the thread
	defer runtime.UnlockOSThread()
	ctx, cancel := context.WithTimeout(ctx, job.Deadline()+vagrantTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, "nice", "unshare", "-mnp", "--fork", "--kill-child", "--mount-proc",
		"sh", "-eu", "-c", image.LibvirtScript(), "libvirt", state,
		"sh", "-eu", "-c", image.VagrantScript(), "vagrant", b.Name, filepath.Join(state, "report"))
	cmd.Env = append(append(os.Environ(), env...), "PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin",
		"VAGRANT_CWD="+v.Folder, "VAGRANT_DOTFILE_PATH="+filepath.Join(state, "dot"), "VAGRANT_CHECKPOINT_DISABLE=1")
	cmd.Dir, cmd.Stdout, cmd.Stderr, cmd.SysProcAttr = v.Folder, out, out, vm.DieWithParent()
	cmd.WaitDelay = 5 * time.Second
	err := cmd.Run()
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return fmt.Errorf("killed after %s", job.Deadline()+vagrantTime)
	}
	return err
}

// readFile reads a report that was fetched; ran says how Vagrant itself ended.
func (row *Row) readFile(path string, job report.Job, release string, ran error, said []byte) error {
	data, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("read report: %w", err)
	}
	rep, err := report.Parse(bytes.NewReader(data), job, nil)
	if err != nil {
		return err
	}
	row.Release, row.Problems = rep.Release, rep.Problems(job)
	if ran != nil && len(row.Problems) == 0 || !rep.Done {
		row.Problems = append(row.Problems, report.Problem{Text: fmt.Sprintf("vagrant: %v", ran), Output: said})
	}
	if rep.Release != release && rep.Done {
		row.Problems = append(row.Problems, report.Problem{Text: fmt.Sprintf("the box runs kernel %s, not %s", rep.Release, release)})
	}
	row.read(job, rep, nil)
	return nil
}
