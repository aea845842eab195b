package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport"
	"github.com/sallyport/sallyport/internal/policy"
)

const runExample = `  # no network; writes only to the working directory
  sallyport run -- make test

  # one name, any port but 25
  sallyport run --allow-domain api.github.com -- curl https://api.github.com/zen

  # see what would be put up
  sallyport run --dry-run -- npm install`

type runFlags struct {
	policy  *policyFlags
	dir     string
	env     []string
	name    string
	user    string
	dryRun  bool
	quiet   bool
	summary string
}

func runCommand() *cobra.Command {
	var f runFlags
	cmd := &cobra.Command{
		Use:   "run [flags] -- COMMAND [ARG]...",
		Short: "Run a command inside the boundary",
		Long: `Run a command that can reach only the hosts, and write only the files, that the
policy allows, and record what it tried besides.

The exit status is the command's; 128 and the signal's number if one killed it;
125 if the boundary could not be put up, in which case the command did not start;
126 or 127 if the command could not be executed or was not found.`,
		Example: runExample,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return runError(errors.New("no command to run"), "sallyport run [flags] -- COMMAND [ARG]...")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error { return asRunError(cmd, run(cmd, f, args)) },
	}
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return runError(err, "see 'sallyport help run'") })
	flags := cmd.Flags()
	flags.SetInterspersed(false) // what follows the command is the command's
	f.policy = addPolicyFlags(cmd)
	flags.StringVarP(&f.dir, "chdir", "C", "", "run in `DIR`")
	flags.StringArrayVarP(&f.env, "env", "e", nil, "pass `NAME`, or set NAME=VALUE (repeatable)")
	flags.StringVar(&f.name, "name", "", "call the sandbox `NAME` in the record")
	flags.StringVar(&f.user, "user", "", "as root: run as `NAME|UID[:GID]`")
	flags.BoolVar(&f.dryRun, "dry-run", false, "print the plan and bubblewrap's arguments, run nothing")
	flags.BoolVarP(&f.quiet, "quiet", "q", false, "no summary of denials at the end")
	flags.StringVar(&f.summary, "json-summary", "", "write the summary to `FILE` as JSON")
	return cmd
}

// runError is a failure of run itself.
func runError(err error, hint string) error {
	return &statusError{status: exitRun, err: err, hint: hint}
}

// asRunError gives every failure of run its status: 125, usage included.
func asRunError(cmd *cobra.Command, err error) error {
	var status *statusError
	if err == nil || errors.As(err, &status) {
		return err
	}
	var problems policy.Errors
	if errors.As(err, &problems) {
		printProblems(cmd.ErrOrStderr(), problems)
		return runError(fmt.Errorf("the policy has %s", count(len(problems), "problem")), "")
	}
	var e *sallyport.Error
	if errors.As(err, &e) {
		return &statusError{status: e.Status, err: err, hint: e.Hint}
	}
	return runError(err, "")
}

func run(cmd *cobra.Command, f runFlags, args []string) error {
	if err := becomeUser(f.user); err != nil {
		return err
	}
	errOut := cmd.ErrOrStderr()
	o := sallyport.Options{
		Command: args, Dir: f.dir, Name: f.name, Env: f.env, Policy: f.policy.options(),
		Warn: func(message, hint string) { warn(errOut, message, hint) },
	}
	if f.dryRun {
		p, err := sallyport.Plan(o)
		if err != nil {
			return err
		}
		_, err = fmt.Fprint(cmd.OutOrStdout(), p)
		return err
	}
	result, err := sallyport.Run(cmd.Context(), o)
	if err != nil {
		return err
	}
	if f.summary != "" {
		if err := writeSummary(f.summary, result); err != nil {
			warn(errOut, err.Error(), "")
		}
	}
	if !f.quiet {
		showSummary(errOut, result)
	}
	if result.Status != 0 {
		return &statusError{status: result.Status}
	}
	return nil
}

func warn(w io.Writer, message, hint string) {
	fmt.Fprintf(w, "sallyport: warning: %s\n", message)
	if hint != "" {
		fmt.Fprintf(w, "sallyport: hint: %s\n", hint)
	}
}

func writeSummary(path string, r *sallyport.Result) error {
	b, err := json.MarshalIndent(r.Summary, "", "  ")
	if err != nil {
		return fmt.Errorf("encode summary: %w", err)
	}
	if err := os.WriteFile(path, append(b, '\n'), 0o600); err != nil {
		return fmt.Errorf("write summary: %w", err)
	}
	return nil
}

// showSummary says what was refused. A command that succeeded and was refused
// nothing is not commented on.
func showSummary(w io.Writer, r *sallyport.Result) {
	if r.Status == 0 && len(r.Summary.Denials) == 0 && r.Summary.Lost == 0 {
		return
	}
	r.Summary.WriteText(w)
}
