package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"time"

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
	timeout time.Duration
	fail    bool
	control int
	notify  bool
	asks    string // socket
}

func runCommand() *cobra.Command {
	var f runFlags
	cmd := &cobra.Command{
		Use:   "run [flags] [-- COMMAND [ARG]...]",
		Short: "Run a command inside the boundary",
		Long: `Run a command that can reach only the hosts, and write only the files, that the
policy allows, and record what it tried besides.

Without a command it is $SHELL, or /bin/sh.

Where standard input, output or error is a terminal, the command has a terminal
of its own in its place; pipes and files are passed on as they are. The terminal
is put back as it was when the command ends or is stopped with Ctrl-Z, which
stops the run as it would the command; fg and bg continue both. If the terminal
goes away, the command gets SIGHUP. Whatever the command leaves running ends with
it.

With --ask, or ask: {} in the policy, a connection to a host that the policy
neither allows nor denies waits until you have answered: on this terminal, unless
a full-screen program has it; on the desktop; or in 'sallyport ask' on another
terminal. No answer within a minute is a refusal. See docs/ask.md.
Any other SIGHUP (kill -HUP) has sallyport read its policy files anew, and does not
reach the command. Rules for hosts then hold for every connection that comes; what
the sandbox was built of stays. A policy with an error changes nothing. So do
policies that come by --control-fd.

The exit status is the command's; 128 and the signal's number if one killed it;
124 if it ran out of time (--timeout); 1 if it succeeded and something was denied
(--fail-on-denial); 125 if the boundary could not be put up, in which case the command did not start;
126 or 127 if the command could not be executed or was not found.`,
		Example: runExample,
		RunE:    func(cmd *cobra.Command, args []string) error { return asRunError(cmd, run(cmd, f, args)) },
	}
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return runError(err, "see 'sallyport help run'") })
	flags := cmd.Flags()
	flags.SetInterspersed(false) // what follows the command is the command's
	f.policy = addPolicyFlags(cmd)
	flags.StringVarP(&f.dir, "chdir", "C", "", "run in `DIR`")
	flags.StringArrayVarP(&f.env, "env", "e", nil, "pass `NAME`, or set NAME=VALUE (repeatable)")
	flags.StringVar(&f.name, "name", "", "call the sandbox `NAME` in the record")
	flags.StringVar(&f.user, "user", "", "as root: run as `NAME|UID[:GID]`")
	flags.DurationVar(&f.timeout, "timeout", 0, "end the command after `DURATION` (90s, 10m): SIGTERM, and SIGKILL 5 seconds later")
	flags.BoolVar(&f.fail, "fail-on-denial", false, "exit with 1 if the command succeeds and anything was denied, or left unrecorded")
	flags.IntVar(&f.control, "control-fd", 0, "read policies from descriptor `FD` while the command runs, one a line, each whole")
	flags.Var(&ruleFlag{f.policy, policy.FlagAsk}, "ask", "ask about what the policy neither allows nor denies, `VIA` tty, socket and desktop, or some of them")
	flags.Lookup("ask").NoOptDefVal = "tty,socket,desktop"
	flags.StringVar(&f.asks, "ask-socket", "", "with --ask: listen at `PATH` for a program that answers")
	flags.BoolVar(&f.notify, "notify", false, "show denials on the desktop as they happen")
	flags.BoolVar(&f.dryRun, "dry-run", false, "print what would be put up, run nothing")
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
	if f.timeout < 0 {
		return runError(fmt.Errorf("--timeout: %s is negative", f.timeout), "leave it out to let the command run for ever")
	}
	if len(args) == 0 {
		args = []string{shell()}
	}
	errOut := cmd.ErrOrStderr()
	o := sallyport.Options{
		Version: versionString(),
		Command: args, Dir: f.dir, Name: f.name, Env: f.env, Policy: f.policy.options(), Timeout: f.timeout,
		AskSocket: f.asks, Notify: f.notify,
		Warn: func(message, hint string) { warn(errOut, message, hint) },
	}
	if err := openControl(cmd, f.control, &o); err != nil {
		return err
	}
	if f.dryRun {
		p, err := planFor(runtime.GOOS, o)
		if err != nil {
			return err
		}
		_, err = fmt.Fprint(cmd.OutOrStdout(), p)
		return err
	}
	giveBackLater()
	result, err := sallyport.Run(cmd.Context(), o)
	if err != nil {
		return err
	}
	if f.summary != "" {
		if err := writeSummary(f.summary, result); err != nil {
			warn(errOut, err.Error(), "")
		}
	}
	if !f.quiet || result.Summary.Appeared() > 0 {
		showSummary(errOut, result)
	}
	return outcome(result, f)
}

// outcome gives the exit status. The command's own failure comes first.
func outcome(r *sallyport.Result, f runFlags) error {
	switch {
	case r.TimedOut:
		return &statusError{status: r.Status, err: fmt.Errorf("the command had not ended after %s, and was ended", r.Timeout)}
	case r.Status != 0:
		return &statusError{status: r.Status}
	case f.fail && r.Summary.Lost > 0:
		return problem(errors.New("the command succeeded, and not everything that was denied is known"), "")
	case f.fail && len(r.Summary.Denials) > 0:
		return problem(errors.New("the command succeeded, and attempts of it were denied (--fail-on-denial)"), "")
	}
	return nil
}

// shell is what is run when no command is named.
func shell() string {
	if s := os.Getenv("SHELL"); s != "" {
		return s
	}
	return "/bin/sh"
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
	if r.Status == 0 && len(r.Summary.Denials) == 0 && r.Summary.Lost == 0 && r.Summary.Appeared() == 0 {
		return
	}
	r.Summary.WriteText(w)
}
