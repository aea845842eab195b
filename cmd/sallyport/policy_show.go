package main

import (
	"errors"
	"fmt"
	"runtime"

	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport"
	"github.com/sallyport/sallyport/internal/policy"
)

func policyShowCommand() *cobra.Command {
	var platform string
	cmd := &cobra.Command{
		Use:   "show",
		Short: "Print what a run would put up under the policy",
		Long: `Print what a run would put up under the policy, for this system or for another.

For darwin this is the Seatbelt profile, with the values of its parameters as
comments. Printed on another system it takes names as they are written, since
nothing is known of the Mac's files; the port of the proxy is a run's own.`,
		Example: "  sallyport policy show\n  sallyport policy show --platform darwin --policy team.yaml",
		Args:    cobra.NoArgs,
	}
	flags := addPolicyFlags(cmd)
	cmd.Flags().StringVar(&platform, "platform", runtime.GOOS, "`SYSTEM` to plan for: linux or darwin")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		shown, err := planFor(platform, sallyport.Options{Command: []string{"true"}, Policy: flags.options()})
		if err != nil {
			return showError(cmd, err)
		}
		if _, err := fmt.Fprint(cmd.OutOrStdout(), shown); err != nil {
			return problem(fmt.Errorf("write policy: %w", err), "")
		}
		return nil
	}
	return cmd
}

// planFor gives what a run on a system would put up.
func planFor(platform string, o sallyport.Options) (fmt.Stringer, error) {
	switch {
	case platform == "darwin":
		return sallyport.MacProfile(o)
	case platform == "linux" && runtime.GOOS == "linux":
		return sallyport.Plan(o)
	case platform == "linux":
		return nil, errors.New("a plan for Linux needs what its kernel can do: print it on Linux")
	}
	if platform == runtime.GOOS { // where nothing can be put up, Plan says so
		return sallyport.Plan(o)
	}
	return nil, &statusError{exitUsage, fmt.Errorf("--platform: unknown system %q (linux or darwin)", platform), ""}
}

// showError is what is wrong with a policy, or with planning for it.
func showError(cmd *cobra.Command, err error) error {
	var status *statusError
	var problems policy.Errors
	var failed *sallyport.Error
	switch {
	case errors.As(err, &status):
		return err
	case errors.As(err, &problems):
		printProblems(cmd.ErrOrStderr(), problems)
		return problem(fmt.Errorf("the policy has %s", count(len(problems), "problem")), "")
	case errors.As(err, &failed):
		return problem(err, failed.Hint)
	}
	return problem(err, "")
}
