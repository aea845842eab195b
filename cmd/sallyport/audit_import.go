package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport/internal/audit"
	"github.com/sallyport/sallyport/internal/event"
	"github.com/sallyport/sallyport/seatbelt"
)

func auditImportCommand() *cobra.Command {
	var from, output, tag string
	cmd := &cobra.Command{
		Use:   "import --from macos-log [flags] FILE|-",
		Short: "Print what another system's log says was refused",
		Long: `Print the sandbox violations in a saved log of macOS as events, in the order
they stand there: what the kernel reported, and what sandboxd did, which the
event says. Nothing is stored, and nothing is left out as noise.

FILE is the output of 'log show' or 'log stream', in the style ndjson, syslog,
compact or default. Only ndjson tells for certain who wrote a record: in the
others a program can log a line break and what looks like another record.

What is no such report is counted on standard error.`,
		Example: `  log show --last 1h --style ndjson --predicate 'processID == 0' > mac.ndjson
  sallyport audit import --from macos-log mac.ndjson
  sallyport audit import --from macos-log -o json - < mac.ndjson | jq .object`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case from == "":
				return fmt.Errorf("--from is needed: macos-log")
			case from != "macos-log":
				return fmt.Errorf("--from: unknown log %q (macos-log)", from)
			case output != "text" && output != "json":
				return fmt.Errorf("--output: unknown format %q (text or json)", output)
			}
			return auditImport(cmd, args[0], tag, output)
		},
	}
	f := cmd.Flags()
	f.StringVar(&from, "from", "", "`LOG` to read: macos-log")
	f.StringVarP(&output, "output", "o", "text", "`FORMAT`: text or json")
	f.StringVar(&tag, "tag", "", "only violations with the message `TAG`")
	return cmd
}

func auditImport(cmd *cobra.Command, name, tag, output string) error {
	in := cmd.InOrStdin()
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return problem(fmt.Errorf("import log: %w", err), "")
		}
		defer f.Close()
		in = f
	}
	out := bufio.NewWriter(cmd.OutOrStdout())
	sum, err := seatbelt.Import(in, tag, eventPrinter(out, cmd.OutOrStdout(), output))
	if flushErr := out.Flush(); err == nil {
		err = flushErr
	}
	reportImport(cmd.ErrOrStderr(), sum)
	if err != nil {
		return problem(fmt.Errorf("import log: %w", err), "")
	}
	return nil
}

// eventPrinter writes events to w as lines; terminal says whether colours are
// wanted.
func eventPrinter(w, terminal io.Writer, output string) func(event.Event) error {
	if output == "json" {
		enc := json.NewEncoder(w)
		enc.SetEscapeHTML(false)
		return func(e event.Event) error { return enc.Encode(e) }
	}
	paint := painter(terminal, os.Getenv)
	return func(e event.Event) error {
		_, err := io.WriteString(w, audit.Format(e, paint)+"\n")
		return err
	}
}

// reportImport says what was read and what was dropped.
func reportImport(w io.Writer, sum seatbelt.Imported) {
	var dropped []string
	for o, n := range sum.Outcomes {
		if o := seatbelt.Outcome(o); o != seatbelt.Kept && n > 0 {
			dropped = append(dropped, fmt.Sprintf("%d %s", n, o))
		}
	}
	fmt.Fprintf(w, "sallyport: %s, %s", count(int(sum.Outcomes[seatbelt.Kept]), "violation"), count(int(sum.Attempts), "attempt"))
	if len(dropped) > 0 {
		fmt.Fprintf(w, "; dropped: %s", strings.Join(dropped, ", "))
	}
	fmt.Fprintln(w)
	if sum.Lost > 0 {
		fmt.Fprintf(w, "sallyport: warning: the log had dropped %s itself\n", entries(sum.Lost))
	}
	if sum.Forgeable {
		fmt.Fprintln(w, "sallyport: warning: a text style does not show for certain who wrote a record; use --style ndjson")
	}
}

func entries(n uint64) string {
	if n == 1 {
		return "1 entry"
	}
	return fmt.Sprintf("%d entries", n)
}
