package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/sallyport/sallyport/testvm/internal/machine"
	"github.com/sallyport/sallyport/testvm/internal/matrix"
	"github.com/sallyport/sallyport/testvm/internal/vm"
)

// runVagrant runs the tests through Vagrant on boxes that are built here.
func runVagrant(ctx context.Context, args []string) error {
	f := newFlags("vagrant")
	full := f.Bool("full", false, "every Debian release, not only the current one")
	if err := f.parse(args); err != nil {
		return err
	}
	boxes, err := namedBoxes(f.Args(), *full)
	if err != nil {
		return err
	}
	module, err := vm.ModuleDir(ctx)
	if err != nil {
		return err
	}
	c, dir, err := workFolder()
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	built, err := f.buildPayload(ctx, dir)
	if err != nil {
		return err
	}
	v := matrix.Vagrant{Cache: c, Folder: filepath.Join(module, "testvm")}
	failed := 0
	for _, b := range boxes {
		row, err := v.Run(ctx, b, built)
		if err != nil {
			return fmt.Errorf("run %s: %w", b.Name, err)
		}
		row.Print(os.Stdout)
		failed += matrix.Failed([]matrix.Row{row})
	}
	if failed > 0 {
		return errFailed
	}
	return nil
}

// namedBoxes are those named; none: the first of the table, or all that can be built.
func namedBoxes(names []string, full bool) ([]machine.Box, error) {
	var boxes []machine.Box
	for _, name := range names {
		b, ok := machine.FindBox(name)
		if !ok || !b.Built() {
			return nil, usageError{fmt.Errorf("no box %q that can be built", name)}
		}
		boxes = append(boxes, b)
	}
	if len(names) > 0 {
		return boxes, nil
	}
	for _, b := range machine.Boxes {
		if b.Built() && (full || len(boxes) == 0) {
			boxes = append(boxes, b)
		}
	}
	return boxes, nil
}

// payload compiles the tests into a folder, for the Vagrantfile.
func payload(ctx context.Context, args []string) error {
	f := newFlags("payload")
	if err := f.parse(args); err != nil {
		return err
	}
	if f.NArg() != 1 {
		return usageError{fmt.Errorf("payload: want a folder")}
	}
	dir, err := filepath.Abs(f.Arg(0))
	if err != nil {
		return err
	}
	_, err = f.buildPayload(ctx, dir)
	return err
}

// buildPayload makes a payload with the jobs of the Vagrantfile's machines in it.
func (f *testFlags) buildPayload(ctx context.Context, dir string) (vm.Payload, error) {
	begun := time.Now()
	built, err := vm.BuildPayload(ctx, dir, f.tests)
	if err != nil {
		return built, fmt.Errorf("build payload: %w", err)
	}
	logf("payload of %d steps in %.1fs", len(built.Steps), time.Since(begun).Seconds())
	return built, matrix.WriteJobs(built)
}
