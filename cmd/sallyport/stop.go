package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport"
)

func stopCommand() *cobra.Command {
	var grace time.Duration
	var user string
	cmd := &cobra.Command{
		Use:   "stop [flags] ID|NAME...",
		Short: "End sandboxes that run",
		Long: `End sandboxes, each named by its id, the beginning of its id (at least four
characters), or its name. The command in it gets SIGTERM, and SIGKILL if it has
not ended after --time. Returns when each has ended and its record is complete.`,
		Example: `  sallyport stop build
  sallyport ps -o json | jq -r .id | xargs -r sallyport stop --time 0s`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if grace < 0 {
				return fmt.Errorf("--time: %s is negative", grace)
			}
			if err := becomeNamed(user); err != nil {
				return err
			}
			var failed error
			for _, what := range args {
				if err := sallyport.Stop(cmd.Context(), what, grace); err != nil {
					failed = errors.Join(failed, err)
				}
			}
			return asProblem(failed)
		},
	}
	cmd.Flags().DurationVarP(&grace, "time", "t", 10*time.Second, "how long the command has to end by itself: `DURATION`")
	addUserFlag(cmd, &user)
	return cmd
}

// asProblem is for a command that could not do what it was told.
func asProblem(err error) error {
	if err == nil {
		return nil
	}
	var e *sallyport.Error
	if errors.As(err, &e) {
		return problem(err, e.Hint)
	}
	return problem(err, "")
}
