package main

import (
	"encoding"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport/internal/audit"
	"github.com/sallyport/sallyport/internal/event"
)

func auditCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "audit",
		Short: "Show what sandboxes tried",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(auditQueryCommand(), auditTailCommand(), auditExportCommand(), auditImportCommand())
	return cmd
}

func auditQueryCommand() *cobra.Command {
	var fl auditFlags
	cmd := &cobra.Command{
		Use:   "query [flags]",
		Short: "Print recorded events, oldest first",
		Long: `Print recorded events, oldest first: the whole history unless filtered.

What was denied or asked is shown, and what was recorded only; --all adds what
was allowed and what the host itself refused. Conditions of one kind are joined
by "or", kinds by "and". The exit status is 1 if the log has been damaged.`,
		Example: `  sallyport audit query --since today --operation net.connect
  sallyport audit query --since 1h --host '*.example.com' -o json | jq .object`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			filter, from, err := fl.read(cmd, time.Now())
			if err != nil {
				return err
			}
			return fl.print(cmd, missingIsEmpty(audit.QueryAll(filter, from...), fl.dir == ""))
		},
	}
	fl.add(cmd, -1, "print only the last `N` events")
	return cmd
}

func auditTailCommand() *cobra.Command {
	var fl auditFlags
	var follow bool
	cmd := &cobra.Command{
		Use:   "tail [flags]",
		Short: "Print the last events, and follow what comes",
		Example: `  sallyport audit tail -f
  sallyport audit tail -n 100 --sandbox build`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			filter, from, err := fl.read(cmd, time.Now())
			if err != nil {
				return err
			}
			if follow {
				return fl.print(cmd, audit.FollowAll(cmd.Context(), filter, from...))
			}
			return fl.print(cmd, missingIsEmpty(audit.QueryAll(filter, from...), fl.dir == ""))
		},
	}
	fl.add(cmd, 10, "start with the last `N` events")
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on with events as they come")
	return cmd
}

// auditFlags is what query and tail have in common.
type auditFlags struct {
	since, until                 string
	verdicts, operations, layers []string
	sandbox, host, path          string
	pid, lines                   int
	all                          bool
	output, dir                  string
}

func (fl *auditFlags) add(cmd *cobra.Command, lines int, linesUsage string) {
	f := cmd.Flags()
	f.StringVar(&fl.since, "since", "", "not before `TIME`: 1h, today, \"2026-11-22 10:00\", RFC 3339")
	f.StringVar(&fl.until, "until", "", "not after `TIME`")
	f.StringSliceVar(&fl.verdicts, "verdict", nil, "`VERDICT`: "+strings.Join(event.Verdicts(), ", "))
	f.StringSliceVar(&fl.operations, "operation", nil, "`OPERATION`, such as net.connect or file.write")
	f.StringSliceVar(&fl.layers, "layer", nil, "`LAYER` that saw it: "+strings.Join(event.Layers()[1:], ", "))
	f.StringVar(&fl.sandbox, "sandbox", "", "sandbox by its `NAME` or the beginning of its id")
	f.StringVar(&fl.host, "host", "", "host or address, a `GLOB`")
	f.StringVar(&fl.path, "path", "", "path, a `GLOB` (* matches slashes too)")
	f.IntVar(&fl.pid, "pid", 0, "process `ID`, as the host sees it")
	f.IntVarP(&fl.lines, "lines", "n", lines, linesUsage)
	f.BoolVar(&fl.all, "all", false, "also what was allowed and what the host itself refused")
	f.StringVarP(&fl.output, "output", "o", "text", "`FORMAT`: text or json (the stored lines)")
	f.StringVar(&fl.dir, "dir", "", "`DIR` of the logs (default $XDG_STATE_HOME/sallyport/audit, and your part of the machine's log)")
	if lines < 0 {
		f.Lookup("lines").DefValue = "all"
	}
}

// read turns the flags into a filter and where to look; its errors are usage
// errors.
func (fl *auditFlags) read(cmd *cobra.Command, now time.Time) (f audit.Filter, from []audit.Source, err error) {
	f = audit.Filter{Sandbox: fl.sandbox, Host: fl.host, Path: fl.path, PID: fl.pid, Notable: !fl.all, Limit: fl.lines}
	var errs [6]error
	f.Verdicts, errs[0] = parseEnums[event.Verdict]("verdict", fl.verdicts, event.Verdicts())
	f.Operations, errs[1] = parseEnums[event.Operation]("operation", fl.operations, event.Operations())
	f.Layers, errs[2] = parseEnums[event.Layer]("layer", fl.layers, event.Layers())
	f.Since, errs[3] = parseBound("since", fl.since, now)
	f.Until, errs[4] = parseBound("until", fl.until, now)
	switch {
	case fl.lines < 0 && cmd.Flags().Changed("lines"):
		errs[5] = fmt.Errorf("--lines: %d is less than 0", fl.lines)
	case fl.lines < 0:
		f.Limit = 0
	case fl.lines == 0:
		f.Limit = -1
	}
	for _, err := range errs {
		if err != nil {
			return f, nil, err
		}
	}
	if fl.output != "text" && fl.output != "json" {
		return f, nil, fmt.Errorf("--output: unknown format %q (text or json)", fl.output)
	}
	dir, err := fl.directory()
	if err != nil {
		return f, nil, err
	}
	from = []audit.Source{audit.DirSource(dir)}
	if fl.dir == "" { // with an agent, a run's record is in the machine's log
		from = append(from, machineLog(cmd)...)
	}
	return f, from, nil
}

func (fl *auditFlags) directory() (string, error) {
	if fl.dir != "" {
		return fl.dir, nil
	}
	home, _ := os.UserHomeDir()
	if dir := audit.Dir(os.Getenv, home); dir != "" {
		return dir, nil
	}
	return "", problem(errors.New("no home directory to look for the audit log in"), "name it with --dir")
}

// parseEnums reads the values of a flag that may be given more than once.
func parseEnums[T any, P interface {
	*T
	encoding.TextUnmarshaler
}](flag string, values, names []string) ([]T, error) {
	var out []T
	for _, s := range values {
		var v T
		if err := P(&v).UnmarshalText([]byte(s)); err != nil {
			return nil, fmt.Errorf("--%s: unknown value %q (one of %s)", flag, s, strings.Join(names, ", "))
		}
		out = append(out, v)
	}
	return out, nil
}

func parseBound(flag, s string, now time.Time) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	t, err := parseWhen(s, now)
	if err != nil {
		return t, fmt.Errorf("--%s: %w", flag, err)
	}
	return t, nil
}

// missingIsEmpty takes a log directory that nobody named and that does not
// exist for what it is: no sandbox has run yet.
func missingIsEmpty(seq iter.Seq2[audit.Record, error], unnamed bool) iter.Seq2[audit.Record, error] {
	return func(yield func(audit.Record, error) bool) {
		for r, err := range seq {
			var le *audit.LineError
			if unnamed && errors.Is(err, fs.ErrNotExist) && !errors.As(err, &le) {
				continue
			}
			if !yield(r, err) {
				return
			}
		}
	}
}

// print writes the records to stdout and what is wrong with them to stderr.
func (fl *auditFlags) print(cmd *cobra.Command, records iter.Seq2[audit.Record, error]) error {
	out := cmd.OutOrStdout()
	paint := painter(out, os.Getenv)
	shown, failed, damaged := 0, false, false
	for r, err := range records {
		if err != nil {
			var le *audit.LineError
			failed, damaged = true, damaged || errors.As(err, &le)
			fmt.Fprintf(cmd.ErrOrStderr(), "sallyport: error: %s\n", event.Text(err.Error()).Printable())
			continue
		}
		shown++
		line := string(r.Line)
		if fl.output == "text" {
			line = audit.Format(r.Event, paint)
		}
		if _, err := io.WriteString(out, line+"\n"); err != nil {
			return problem(fmt.Errorf("write events: %w", err), "")
		}
	}
	switch {
	case damaged:
		return problem(errors.New("the audit log is damaged"), "what stands at the places above cannot be relied on")
	case failed:
		return problem(nil, "")
	case shown == 0 && fl.output == "text":
		fmt.Fprintln(cmd.ErrOrStderr(), "sallyport: no events match")
	}
	return nil
}

// painter gives the verdicts their colours if out is a terminal that wants
// them (no-color.org), else nil.
func painter(out io.Writer, getenv func(string) string) func(event.Verdict, string) string {
	f, ok := out.(*os.File)
	if !ok || getenv("NO_COLOR") != "" || getenv("TERM") == "dumb" {
		return nil
	}
	if info, err := f.Stat(); err != nil || info.Mode()&os.ModeCharDevice == 0 {
		return nil
	}
	return paintVerdict
}

func paintVerdict(v event.Verdict, s string) string {
	code := "33" // yellow
	switch {
	case v.Denied():
		code = "31" // red
	case v != event.Audit:
		code = "32" // green
	}
	return "\x1b[" + code + "m" + s + "\x1b[0m"
}
