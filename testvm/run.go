package testvm

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/sallyport/sallyport/testvm/internal/image"
	"github.com/sallyport/sallyport/testvm/internal/machine"
	"github.com/sallyport/sallyport/testvm/internal/vm"
)

// EnvBoot allows tests to start machines: they take seconds to minutes, and the
// first ones fetch packages.
const EnvBoot = "SALLYPORT_TESTVM_BOOT"

// Run runs a job on a kernel and fails the test, with what the job printed, unless
// all of it passed.
func Run(t testing.TB, k Kernel, job Job) Result {
	t.Helper()
	result := Try(t, k, job)
	for _, p := range result.Problems() {
		t.Errorf("%s: %s\n%s", result.Machine, p, p.Output)
	}
	return result
}

// Try runs a job on a kernel and leaves the judgement to the caller. It fails the
// test only if the machine could not be started.
func Try(t testing.TB, k Kernel, job Job) Result {
	t.Helper()
	if os.Getenv(EnvBoot) == "" {
		t.Skipf("starts a virtual machine: set %s=1", EnvBoot)
	}
	dir, err := image.DefaultDir(os.Getenv, os.Geteuid())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	m := machine.Machine{Kernel: k, Init: job.Init, Boot: job.Boot}
	if m.Init == 0 {
		m.Init = Plain
	}
	disk, err := payload(t.Context(), t.TempDir(), job)
	if err != nil {
		t.Fatalf("make payload: %v", err)
	}
	runner := vm.Runner{Images: image.Cache{Dir: dir, Log: t.Logf}, Dir: dir}
	result, err := runner.Run(t.Context(), m, disk, job.Steps)
	if err != nil {
		t.Fatalf("run %s: %v", m, err)
	}
	return result
}

// payload makes the image of the harness and a job's files.
func payload(ctx context.Context, dir string, job Job) (string, error) {
	p := vm.Payload{Dir: filepath.Join(dir, "tree")}
	if err := p.AddHarness(ctx); err != nil {
		return "", err
	}
	for name, path := range job.Files {
		if !filepath.IsLocal(name) {
			return "", fmt.Errorf("file %q does not lie below the payload", name)
		}
		if err := p.AddFile(name, path); err != nil {
			return "", err
		}
	}
	disk := filepath.Join(dir, "payload.ext4")
	return disk, p.Image(ctx, disk)
}
