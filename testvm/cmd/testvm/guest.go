package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"

	"github.com/sallyport/sallyport/testvm/internal/feature"
	"github.com/sallyport/sallyport/testvm/internal/guest"
)

// runGuest runs a job inside a machine and reports at its port, or into a file.
func runGuest(ctx context.Context, args []string) error {
	f := flag.NewFlagSet("guest", flag.ContinueOnError)
	job := f.String("job", guest.JobDevice, "where the job is")
	to := f.String("report", "", "file that the report goes to; default: the machine's port")
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
	return guest.Run(ctx, steps, out)
}

// survey prints which features the running system has, as JSON.
func survey(context.Context, []string) error {
	out := json.NewEncoder(os.Stdout)
	if err := out.Encode(feature.Survey()); err != nil {
		return fmt.Errorf("print survey: %w", err)
	}
	return nil
}
