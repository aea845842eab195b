package main

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport/internal/audit"
	"github.com/sallyport/sallyport/internal/event"
	"github.com/sallyport/sallyport/internal/policy"
)

func policySuggestCommand() *cobra.Command {
	var fl auditFlags
	var together bool
	cmd := &cobra.Command{
		Use:   "suggest [flags]",
		Short: "Propose a policy that would allow what was denied",
		Long: `Propose a policy that would allow what was recorded as denied, and nothing
else: look at it before you use it. It is what is to be added: name it with
--policy beside the policy it was made for, or take its lines over.

Secrets, protected files, the addresses of this host and of clouds' services and
what only an administrator can open are not proposed; comments say so. With
--together three hosts of one domain become a wildcard, never over a public
suffix, and three files of one directory become the directory.`,
		Example: `  sallyport policy suggest --since 1h
  sallyport policy suggest --sandbox build > more.yaml
  sallyport run --policy mine.yaml --policy more.yaml -- make`,
		Args: cobra.NoArgs,
	}
	flags := addPolicyFlags(cmd)
	f := cmd.Flags()
	f.StringVar(&fl.since, "since", "", "not before `TIME`: 1h, today, \"2026-11-22 10:00\", RFC 3339")
	f.StringVar(&fl.until, "until", "", "not after `TIME`")
	f.StringVar(&fl.sandbox, "sandbox", "", "sandbox by its `NAME` or the beginning of its id")
	f.StringVar(&fl.dir, "dir", "", "`DIR` of the logs (default $XDG_STATE_HOME/sallyport/audit, and your part of the machine's log)")
	f.BoolVar(&together, "together", false, "make one entry of three of a kind")
	fl.output, fl.lines = "text", -1
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		wishes, err := fl.wishes(cmd)
		if err != nil {
			return err
		}
		p, err := flags.load(cmd)
		if err != nil {
			return err
		}
		return printSuggestion(cmd, p.Suggest(wishes, together))
	}
	return cmd
}

// wishes reads what was denied. A log that is damaged proposes nothing.
func (fl *auditFlags) wishes(cmd *cobra.Command) ([]policy.Wish, error) {
	filter, from, err := fl.read(cmd, time.Now())
	if err != nil {
		return nil, err
	}
	var out []policy.Wish
	for r, err := range missingIsEmpty(audit.QueryAll(filter, from...), fl.dir == "") {
		var damage *audit.LineError
		if errors.As(err, &damage) {
			return nil, problem(err, "nothing is proposed from a damaged log")
		}
		if err != nil {
			return nil, problem(err, "")
		}
		if r.Event.Verdict.Denied() && !r.Event.Object.Truncated {
			out = append(out, wishesOf(r.Event)...)
		}
	}
	return out, nil
}

// wishesOf gives what an event would have needed. A second path is one more.
func wishesOf(e event.Event) []policy.Wish {
	w := policy.Wish{Op: e.Operation, Host: string(e.Object.Host), Addr: e.Object.Addr, Port: e.Object.Port, Path: string(e.Object.Path), Count: e.Count}
	if w.Host == "" {
		w.Host, w.Addr = w.Addr, ""
	}
	if e.Reason != event.AddressDenied {
		w.Addr = ""
	}
	if w.Path != "" && e.Operation != event.UnixConnect && strings.HasPrefix(string(e.Object.To), "/") {
		to := w
		to.Path = string(e.Object.To)
		return []policy.Wish{w, to}
	}
	return []policy.Wish{w}
}

func printSuggestion(cmd *cobra.Command, s policy.Suggestion) error {
	out := cmd.OutOrStdout()
	if err := printLines(out, s.Lines, false); err != nil {
		return problem(fmt.Errorf("write suggestion: %w", err), "")
	}
	if len(s.Left) > 0 {
		fmt.Fprintln(out, "# not proposed:")
	}
	for _, l := range s.Left {
		fmt.Fprintf(out, "#   %s: %s\n", printable(l.Text), printable(l.Source))
	}
	if len(s.Lines) == 0 {
		fmt.Fprintln(cmd.ErrOrStderr(), "sallyport: nothing to propose")
	}
	return nil
}
