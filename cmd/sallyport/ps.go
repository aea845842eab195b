package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport"
	"github.com/sallyport/sallyport/internal/event"
)

func psCommand() *cobra.Command {
	var output, user string
	cmd := &cobra.Command{
		Use:   "ps [flags]",
		Short: "List the sandboxes that run",
		Long: `List the caller's sandboxes that run, oldest first: id, name, process (of
sallyport itself), start, tier and command. A run is listed from when its command
starts until it has ended. Root sees root's own; --user shows another's.`,
		Example: `  sallyport ps
  sallyport ps -o json | jq -r .id`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := becomeNamed(user); err != nil {
				return err
			}
			list := sallyport.List()
			switch output {
			case "text":
				return printRunning(cmd.OutOrStdout(), list)
			case "json":
				return printRunningJSON(cmd.OutOrStdout(), list)
			}
			return fmt.Errorf("--output %q: text or json", output)
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "text", "`text`, or json: one object a line")
	addUserFlag(cmd, &user)
	return cmd
}

func addUserFlag(cmd *cobra.Command, user *string) {
	cmd.Flags().StringVar(user, "user", "", "as root: of `NAME|UID[:GID]`")
}

// becomeNamed is becomeUser for commands that root may use as root.
func becomeNamed(user string) error {
	if user == "" {
		return nil
	}
	err := becomeUser(user)
	var se *statusError
	if errors.As(err, &se) {
		se.status = exitUsage
	}
	return err
}

func printRunning(w io.Writer, list []sallyport.Running) error {
	if len(list) == 0 {
		return nil
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "ID\tNAME\tPID\tSTART\tTIER\tCOMMAND")
	for _, e := range list {
		name := "-"
		if e.Name != "" {
			name = clean(e.Name)
		}
		fmt.Fprintf(t, "%s\t%s\t%d\t%s\t%s\t%s\n", e.ID, name, e.PID, e.Start.Local().Format(time.DateTime), e.Tier, commandLine(e.Command))
	}
	return t.Flush()
}

func printRunningJSON(w io.Writer, list []sallyport.Running) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	for _, e := range list {
		if err := enc.Encode(e); err != nil {
			return fmt.Errorf("print: %w", err)
		}
	}
	return nil
}

// clean escapes what could speak to a terminal, spaces left alone.
func clean(s string) string {
	q := strconv.QuoteToGraphic(string(event.Text(s)))
	return strings.ReplaceAll(q[1:len(q)-1], `\"`, `"`)
}

// commandLine is for people to read: arguments with a space in them are quoted.
func commandLine(argv []string) string {
	const most = 120
	var words []string
	for _, arg := range argv {
		word := clean(arg)
		if arg == "" || strings.ContainsAny(arg, " '\"") {
			word = "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
		}
		words = append(words, word)
	}
	line := []rune(strings.Join(words, " "))
	if len(line) > most {
		return string(line[:most-1]) + "…"
	}
	return string(line)
}
