package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport"
)

func askCommand() *cobra.Command {
	var user string
	cmd := &cobra.Command{
		Use:   "ask [flags]",
		Short: "Answer what running sandboxes ask",
		Long: `Show what the caller's running sandboxes wait for, one question at a time with the
process behind it, and take answers: a line each, from standard input. Sandboxes
that start meanwhile are asked, too. Ends with the end of its input (Ctrl-D);
what is open then is refused, unless somebody else can answer.

A sandbox asks only if it was told to: 'sallyport run --ask', or ask: {} in the
policy. See docs/ask.md.`,
		Example: `  sallyport run --ask -- npm install   # in one terminal
  sallyport ask                        # in another
  sallyport ask list`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := becomeNamed(user); err != nil {
				return err
			}
			return asProblem(answerAll(cmd.Context(), cmd.InOrStdin(), cmd.OutOrStdout()))
		},
	}
	addUserFlag(cmd, &user)
	cmd.AddCommand(askListCommand(), askForgetCommand())
	return cmd
}

func askListCommand() *cobra.Command {
	var output, user string
	cmd := &cobra.Command{
		Use:   "list [flags]",
		Short: "List the answers that hold",
		Long: `List the answers that hold for more than one connection: in the running sandboxes,
until when; and those for always, which stand in the user's policy with the day
of the answer behind them ("# asked 2026-01-31").`,
		Example: `  sallyport ask list
  sallyport ask list -o json | jq -r 'select(.verdict == "allow").match'`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := becomeNamed(user); err != nil {
				return err
			}
			list, err := sallyport.ListRemembered(sallyport.LoadOptions{})
			if err != nil {
				return asProblem(err)
			}
			switch output {
			case "text":
				return printRemembered(cmd.OutOrStdout(), list)
			case "json":
				enc := json.NewEncoder(cmd.OutOrStdout())
				for _, r := range list {
					if err := enc.Encode(r); err != nil {
						return fmt.Errorf("print: %w", err)
					}
				}
				return nil
			}
			return fmt.Errorf("--output %q: text or json", output)
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "text", "`text`, or json: one object a line")
	addUserFlag(cmd, &user)
	return cmd
}

func askForgetCommand() *cobra.Command {
	var user string
	cmd := &cobra.Command{
		Use:   "forget [flags] MATCH...",
		Short: "Take answers back",
		Long: `Take back the answers about exactly MATCH, as 'sallyport ask list' shows it: in
every running sandbox, and in the user's policy where an answer has put it there.
Connections that are open stay open.`,
		Example: `  sallyport ask forget example.com:443 '*.example.org'`,
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := becomeNamed(user); err != nil {
				return err
			}
			var failed error
			for _, match := range args {
				n, err := sallyport.Forget(sallyport.LoadOptions{}, match)
				if err == nil && n == 0 {
					err = fmt.Errorf("no answer is about %s", clean(match))
				}
				failed = errors.Join(failed, err)
			}
			return asProblem(failed)
		},
	}
	addUserFlag(cmd, &user)
	return cmd
}

func printRemembered(w io.Writer, list []sallyport.Remembered) error {
	if len(list) == 0 {
		return nil
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "MATCH\tVERDICT\tSINCE\tUNTIL\tWHERE")
	for _, r := range list {
		since, until, where := r.Since.Local().Format(time.DateTime), "the sandbox ends", r.Sandbox
		switch {
		case r.Rule != "":
			since, until, where = r.Since.Local().Format(time.DateOnly), "always", clean(r.Rule)
		case r.Until != nil:
			until = r.Until.Local().Format(time.DateTime)
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", clean(r.Match), r.Verdict, since, until, where)
	}
	return t.Flush()
}
