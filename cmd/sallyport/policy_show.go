package main

import (
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport"
	"github.com/sallyport/sallyport/internal/policy"
)

func policyShowCommand() *cobra.Command {
	var platform, only string
	cmd := &cobra.Command{
		Use:   "show",
		Short: "Print the effective policy, and what a run would put up under it",
		Long: `Print the effective policy, each line with where it comes from, and what a run
would put up under it, for this system or for another. The policy is YAML; what
a layer above takes away is a comment in it.

For darwin what is put up is the Seatbelt profile, with the values of its
parameters as comments. Printed on another system it takes names as they are
written, since nothing is known of the Mac's files; the port of the proxy is a
run's own.`,
		Example: "  sallyport policy show\n  sallyport policy show --only policy\n  sallyport policy show --platform darwin --policy team.yaml",
		Args:    cobra.NoArgs,
	}
	flags := addPolicyFlags(cmd)
	cmd.Flags().StringVar(&platform, "platform", runtime.GOOS, "`SYSTEM` to plan for: linux or darwin")
	cmd.Flags().StringVar(&only, "only", "", "print no more than `PART`: policy or plan")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if only != "" && only != "policy" && only != "plan" {
			return &statusError{exitUsage, fmt.Errorf("--only: unknown part %q (policy or plan)", only), ""}
		}
		comment := "#"
		if platform == "darwin" {
			comment = ";"
		}
		if only != "plan" {
			p, err := flags.load(cmd)
			if err != nil {
				return err
			}
			if err := printLines(cmd.OutOrStdout(), p.Lines(), platform == "darwin" && only == ""); err != nil {
				return problem(fmt.Errorf("write policy: %w", err), "")
			}
			if only == "policy" {
				return nil
			}
			fmt.Fprintf(cmd.OutOrStdout(), "\n%s what a run puts up\n", comment)
		}
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

// printLines writes lines of a policy with their sources behind them. Quoted,
// they are comments of a profile.
func printLines(w io.Writer, lines []policy.Line, quoted bool) error {
	const most = 60
	width := 0
	for _, l := range lines {
		if n := utf8.RuneCountInString(l.Text); n <= most {
			width = max(width, n)
		}
	}
	var out strings.Builder
	for _, l := range lines {
		text := printable(l.Text)
		if l.Dead {
			text = "#" + text
		}
		if quoted {
			text = "; " + text
		}
		if l.Source != "" {
			text = fmt.Sprintf("%-*s  # %s", width, text, printable(l.Source))
		}
		out.WriteString(text + "\n")
	}
	_, err := io.WriteString(w, out.String())
	return err
}
