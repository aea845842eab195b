package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport"
)

func doctorCommand() *cobra.Command {
	var output, user string
	var clean bool
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Say what this machine can enforce and record, and what to do about each lack",
		Long: `Try everything that a run needs, and say what is missing and what to do about it.

The exit status is 1 if 'sallyport run' cannot start a command here.

With --clean it says nothing of that, but removes what runs have left that were
killed together with all that watches over them: placeholders of protected
files, entries in the list of running sandboxes, as root cgroups; on macOS the
command itself and its temporary directory. The next run would do so, too.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if output != "text" && output != "json" {
				return fmt.Errorf("--output %s: text or json", output)
			}
			// What root can do says nothing of a run, which is another user's.
			var status *statusError
			if err := becomeUser(user); errors.As(err, &status) {
				return problem(status.err, status.hint)
			}
			if clean {
				return cleanUp(cmd.OutOrStdout())
			}
			d := sallyport.Doctor(cmd.Context())
			if err := showDiagnosis(cmd.OutOrStdout(), d, output); err != nil {
				return err
			}
			if !d.CanRun() {
				return &statusError{status: exitProblem}
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&clean, "clean", false, "remove what crashed runs have left")
	cmd.Flags().StringVar(&user, "user", "", "as root: look as `NAME|UID[:GID]`")
	cmd.Flags().StringVarP(&output, "output", "o", "text", "`FORMAT`: text or json")
	return cmd
}

func cleanUp(w io.Writer) error {
	removed, err := sallyport.Clean()
	for _, name := range removed {
		fmt.Fprintf(w, "removed %s\n", strconv.QuoteToGraphic(name))
	}
	if err != nil {
		return problem(err, "remove the named files by hand")
	}
	if len(removed) == 0 {
		fmt.Fprintln(w, "nothing was left")
	}
	return nil
}

func showDiagnosis(w io.Writer, d sallyport.Diagnosis, output string) error {
	if output == "json" {
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		return enc.Encode(d)
	}
	for _, f := range d.Findings {
		fmt.Fprintf(w, "%-8s %-24s %s\n", f.State, f.Name, f.Found)
		if f.Cure != "" {
			fmt.Fprintf(w, "         %24s -> %s\n", "", f.Cure)
		}
	}
	verdict := "run can start a command here"
	if !d.CanRun() {
		verdict = "run CANNOT start a command here"
	}
	_, err := fmt.Fprintf(w, "\ntier %s: %s\n", d.Tier, verdict)
	return err
}
