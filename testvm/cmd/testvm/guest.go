package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"

	"github.com/sallyport/sallyport/testvm/internal/feature"
	"github.com/sallyport/sallyport/testvm/internal/guest"
	"github.com/sallyport/sallyport/testvm/internal/matrix"
	"github.com/sallyport/sallyport/testvm/internal/report"
)

// runGuest runs a job inside a machine and reports at its port, or into a file.
func runGuest(ctx context.Context, args []string) error {
	f := flag.NewFlagSet("guest", flag.ContinueOnError)
	job := f.String("job", guest.JobDevice, "where the job is")
	to := f.String("report", "", "file that the report goes to; default: the machine's port")
	show := f.Bool("print", false, "with -report: say what came of it, and fail unless all passed")
	if err := f.Parse(args); err != nil {
		return usageError{err}
	}
	steps, err := guest.ReadJob(*job)
	if err != nil {
		return err
	}
	open := guest.OpenPort
	if *to != "" {
		open = func() (*os.File, error) { return os.Create(*to) }
	}
	out, err := open()
	if err != nil {
		return err
	}
	defer out.Close()
	if err := guest.Run(ctx, steps, out); err != nil {
		return err
	}
	if *show && *to != "" {
		return printReport(*to, steps)
	}
	return nil
}

// printReport says what came of a job to someone who sees nothing else of it.
func printReport(path string, job report.Job) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	rep, err := report.Parse(f, job, nil)
	if err != nil {
		return err
	}
	row := matrix.RowOf(job, rep)
	row.Print(os.Stdout)
	if len(row.Problems) > 0 {
		return errFailed
	}
	return nil
}

// survey prints which features the running system has, as JSON.
func survey(context.Context, []string) error {
	out := json.NewEncoder(os.Stdout)
	if err := out.Encode(feature.Survey()); err != nil {
		return fmt.Errorf("print survey: %w", err)
	}
	return nil
}
