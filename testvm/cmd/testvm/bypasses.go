package main

import (
	"context"
	"fmt"
	"os"

	"github.com/sallyport/sallyport/testvm/internal/machine"
	"github.com/sallyport/sallyport/testvm/internal/matrix"
	"github.com/sallyport/sallyport/testvm/internal/report"
)

// runBypasses tries the vectors of internal/bypass on each kernel, and writes the
// document. What is kept (-keep) is not run again, so that machines can be run one
// by one.
func runBypasses(ctx context.Context, args []string) error {
	f := newFlags("bypasses")
	f.StringVar(&f.bypasses, "doc", "", "write what came of it to this document")
	f.StringVar(&f.host, "host", "", "output of this system's tests, with -test.v=test2json: a column more")
	f.BoolVar(&f.keptOnly, "kept-only", false, "run nothing: take what is kept (-keep)")
	if err := f.parse(args); err != nil {
		return err
	}
	f.tests.Packages, f.tests.Only = []string{"./internal/e2e"}, "TestBypass.*"
	var plain []machine.Machine
	for _, k := range machine.Kernels {
		plain = append(plain, machine.Machine{Kernel: k, Init: machine.Plain})
	}
	machines, err := named(f.Args(), plain)
	if err != nil {
		return err
	}
	return runTests(ctx, f, machines)
}

// writeBypasses writes the document, of what was run on.
func (f *testFlags) writeBypasses(rows []matrix.Row) error {
	if f.host != "" {
		output, err := os.ReadFile(f.host)
		if err != nil {
			return fmt.Errorf("read tests of this system: %w", err)
		}
		rows = append(rows, matrix.Row{Kernel: "here", Bypasses: matrix.BypassesOf(report.ParseTests(output))})
	}
	if err := os.WriteFile(f.bypasses, matrix.BypassDocument(rows), 0o644); err != nil {
		return fmt.Errorf("write document: %w", err)
	}
	return nil
}
