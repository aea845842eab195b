package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport"
	"github.com/sallyport/sallyport/internal/audit"
	"github.com/sallyport/sallyport/internal/policy"
)

type srtFlags struct {
	settings, command string
	debug             bool
	control           int
}

func srtCommand() *cobra.Command {
	var f srtFlags
	cmd := &cobra.Command{
		Use:   "srt [flags] [COMMAND [ARG]...]",
		Short: "Run a command with srt's command line and settings",
		Long: `Run a command with the command line and the settings file of srt 0.0.83
(npm: @anthropic-ai/sandbox-runtime), ~/.srt-settings.json or --settings. What
holds otherwise than there is in docs/srt.md; the administrator's ceiling holds
as always, your own policy and the project's do not.

What was denied is told at the end on standard error, in the element
<sandbox_violations>, a line each. The exit status is the command's, 128 and the
signal's number if one killed it, and 125 if it did not start.`,
		Example: `  sallyport srt npm install
  sallyport srt --settings ci.json -c 'npm ci && npm test'`,
		RunE: func(cmd *cobra.Command, args []string) error { return asRunError(cmd, srt(cmd, f, args)) },
	}
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return runError(err, "see 'sallyport help srt'") })
	flags := cmd.Flags()
	flags.SetInterspersed(false) // what follows the command is the command's
	flags.StringVarP(&f.settings, "settings", "s", "", "read the settings from `FILE`, not from ~/.srt-settings.json")
	flags.StringVarP(&f.command, "command", "c", "", "run a `COMMAND` line of the shell, as it is")
	flags.BoolVarP(&f.debug, "debug", "d", false, "print the policy with its sources before the command, and every warning")
	flags.IntVar(&f.control, "control-fd", 0, "read settings from descriptor `FD` while the command runs, one a line, each whole")
	return cmd
}

func srt(cmd *cobra.Command, f srtFlags, args []string) error {
	if err := becomeUser(""); err != nil {
		return err
	}
	line, err := f.line(args)
	if err != nil {
		return err
	}
	load, err := f.policy()
	if err != nil {
		return err
	}
	errOut := cmd.ErrOrStderr()
	o := sallyport.Options{Command: []string{srtShell(), "-c", line}, Policy: load}
	if o.Warn, err = f.warner(errOut, load); err != nil {
		return err
	}
	if err := openControl(cmd, f.control, &o); err != nil {
		return err
	}
	giveBackLater()
	result, err := sallyport.Run(cmd.Context(), o)
	if err != nil {
		return err
	}
	writeViolations(errOut, result.Summary)
	if result.Status != 0 {
		return &statusError{status: result.Status}
	}
	return nil
}

// line is what the shell is given: the arguments each as they are, or the text
// of -c.
func (f srtFlags) line(args []string) (string, error) {
	switch {
	case f.command != "":
		return f.command, nil
	case len(args) == 0:
		return "", runError(errors.New("no command"), "name one, or give a line of the shell with -c")
	}
	words := make([]string, len(args))
	for i, a := range args {
		words[i] = "'" + strings.ReplaceAll(a, "'", `'\''`) + "'"
	}
	return strings.Join(words, " "), nil
}

// srtShell is bash, which srt uses, or what there is.
func srtShell() string {
	if path, err := exec.LookPath("bash"); err == nil {
		return path
	}
	return "/bin/sh"
}

// policy names the settings. That there is no file is a way to ask for what
// holds without one, but not where one was named.
func (f srtFlags) policy() (sallyport.LoadOptions, error) {
	load := sallyport.LoadOptions{Only: true, Flags: policy.Flags{{Name: policy.FlagTemplate, Value: policy.TemplateSRT}}}
	name := f.settings
	if name == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return load, runError(fmt.Errorf("find home directory: %w", err), "set HOME")
		}
		name = filepath.Join(home, ".srt-settings.json")
		if _, err := os.Stat(name); errors.Is(err, fs.ErrNotExist) {
			return load, nil
		}
	}
	load.Files = []string{name}
	return load, nil
}

// warner shows what a run warns of, and what the settings themselves give
// reason for only to those who look for it: with -d, with the whole policy.
func (f srtFlags) warner(w io.Writer, load sallyport.LoadOptions) (func(message, hint string), error) {
	p, err := sallyport.LoadPolicy(load)
	if err != nil {
		return nil, err
	}
	known := map[string]bool{}
	if f.debug {
		if err := printLines(w, p.Lines(), false); err != nil {
			return nil, runError(fmt.Errorf("write policy: %w", err), "")
		}
	} else {
		for _, note := range p.Warnings() {
			known[note.Message] = true
		}
	}
	return func(message, hint string) {
		if !known[message] {
			warn(w, message, hint)
		}
	}, nil
}

// mostViolations is how many are told.
const mostViolations = 100

// writeViolations tells what was denied, in the element that programs look for
// which show it to a language model.
func writeViolations(w io.Writer, s audit.Summary) {
	var lines []string
	for _, d := range s.Denials {
		if !d.Ignored && len(lines) < mostViolations {
			lines = append(lines, audit.Violation(d.Operation, d.Object, d.Reason, d.Detail))
		}
	}
	if len(lines) > 0 {
		fmt.Fprintf(w, "\n<sandbox_violations>\n%s\n</sandbox_violations>\n", strings.Join(lines, "\n"))
	}
	if s.Appeared() > 0 || s.Lost > 0 { // what somebody has to look at
		s.Denials, s.DenialsLeftOut = nil, 0
		_ = s.WriteText(w)
	}
}
