package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport"
	"github.com/sallyport/sallyport/internal/event"
	"github.com/sallyport/sallyport/internal/policy"
)

func policyCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "policy",
		Short: "Check a policy, and explain what it decides",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(policyCheckCommand(), policyExplainCommand(), policyShowCommand())
	return cmd
}

func policyCheckCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "check [FILE...]",
		Short: "List every problem of a policy, and what in it has no effect",
		Long: `List every problem of a policy, and what in it has no effect. Several files
are checked as the one policy they make together. The status is 1 if there is
a problem.`,
		Example: "  sallyport policy check\n  sallyport policy check .sallyport.yaml",
	}
	flags := addPolicyFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		p, err := flags.load(cmd, args...)
		if err != nil {
			return err
		}
		return printFindings(cmd.OutOrStdout(), p)
	}
	return cmd
}

// printProblems shows each problem with the line it is in.
func printProblems(w io.Writer, problems policy.Errors) {
	for _, e := range problems {
		fmt.Fprintln(w, printable(e.Error()))
		if e.SourceLine != "" {
			line, caret := excerpt(e.SourceLine, e.Col)
			fmt.Fprintf(w, "%6d | %s\n       | %s\n", e.Line, line, caret)
		}
		if e.Hint != "" {
			fmt.Fprintf(w, "  hint: %s\n", printable(e.Hint))
		}
	}
}

// printable keeps what a policy's author wrote from driving the terminal.
func printable(s string) string {
	return strings.ReplaceAll(event.Text(s).Printable(), `\\`, `\`)
}

// excerpt gives the part of a line around a column, and a mark below it. A
// JSON file may be one line.
func excerpt(line string, col int) (part, caret string) {
	const before, width = 60, 120
	runes := []rune(strings.ReplaceAll(line, "\t", " "))
	col = min(max(col-1, 0), len(runes))
	from := max(0, col-before)
	to := min(len(runes), from+width)
	lead := printable(string(runes[from:col]))
	part = lead + printable(string(runes[col:to]))
	return part, strings.Repeat(" ", len([]rune(lead))) + "^"
}

// printFindings lists what is no error: dead entries and keys without effect.
func printFindings(w io.Writer, p *policy.Policy) error {
	for _, f := range p.Warnings() {
		fmt.Fprintf(w, "%s: warning: %s\n", printable(f.Rule.String()), printable(f.Message))
		if f.Hint != "" {
			fmt.Fprintf(w, "  hint: %s\n", printable(f.Hint))
		}
	}
	for _, u := range p.Unbuilt() {
		refuse := ""
		if u.Refuse {
			refuse = "; run refuses to start with it"
		}
		fmt.Fprintf(w, "%s: warning: %s %s%s\n", printable(u.Rule.String()), u.Key, u.Note, refuse)
	}
	_, err := fmt.Fprintln(w, "no problems")
	return err
}

func policyExplainCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "explain OPERATION OBJECT",
		Short: "Say what the policy decides, by which rule, and what would change it",
		Long: `Say what the policy decides, by which rule, and the smallest change that would
decide otherwise. Nothing is opened, looked up or connected to.

Operations: net.connect HOST:PORT, net.dns NAME, unix.connect PATH, and
file.read, file.write, file.create, file.delete, file.rename, file.link,
file.meta, file.exec PATH.`,
		Example: `  sallyport policy explain net.connect example.com:443
  sallyport policy explain --allow-domain '*.example.com' net.dns www.example.com
  sallyport policy explain "file.write ~/.bashrc"`,
		Args: cobra.MinimumNArgs(1),
	}
	flags := addPolicyFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		name, object, _ := strings.Cut(strings.Join(args, " "), " ")
		var op event.Operation
		if err := op.UnmarshalText([]byte(name)); err != nil || object == "" {
			return &statusError{exitUsage, fmt.Errorf("%q is not an operation and its object", strings.Join(args, " ")),
				"for example: sallyport policy explain net.connect example.com:443"}
		}
		p, err := flags.load(cmd)
		if err != nil {
			return err
		}
		d, err := explain(p, op, object)
		if err != nil {
			return &statusError{exitUsage, err, "see 'sallyport policy explain --help'"}
		}
		return printDecision(cmd.OutOrStdout(), op, object, d)
	}
	return cmd
}

func explain(p *policy.Policy, op event.Operation, object string) (policy.Decision, error) {
	switch op {
	case event.NetConnect:
		req, err := policy.ParseNetTarget(object)
		if err != nil {
			return policy.Decision{}, err
		}
		return p.DecideNet(req), nil
	case event.NetDNS:
		h, err := policy.ParseHost(object)
		if err != nil {
			return policy.Decision{}, err
		}
		return p.DecideName(h), nil
	case event.UnixConnect:
		path, err := absolutePath(object)
		if err != nil {
			return policy.Decision{}, err
		}
		return p.DecideUnix(sallyport.ResolvePath(path)), nil
	case event.FileRead, event.FileWrite, event.FileCreate, event.FileDelete,
		event.FileRename, event.FileLink, event.FileMeta, event.FileExec:
		return explainFile(p, op, object)
	}
	return policy.Decision{}, fmt.Errorf("%s is not decided by a policy", op)
}

// explainFile decides a path by its name and by where its links lead, as the
// boundary does: either may be hidden.
func explainFile(p *policy.Policy, op event.Operation, path string) (policy.Decision, error) {
	path, err := absolutePath(path)
	if err != nil {
		return policy.Decision{}, err
	}
	if d := p.DecideFile(event.FileRead, path); !d.Allowed() {
		return p.DecideFile(op, path), nil
	}
	switch op {
	case event.FileDelete, event.FileRename, event.FileLink, event.FileCreate: // of the link itself
		dir, name := filepath.Split(path)
		return p.DecideFile(op, filepath.Join(sallyport.ResolvePath(dir), name)), nil
	}
	return p.DecideFile(op, sallyport.ResolvePath(path)), nil
}

func absolutePath(path string) (string, error) {
	if path == "~" || strings.HasPrefix(path, "~/") {
		home, err := os.UserHomeDir()
		if err != nil {
			return "", fmt.Errorf("find home directory: %w", err)
		}
		path = filepath.Join(home, path[1:])
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return "", fmt.Errorf("find working directory: %w", err)
	}
	return path, nil
}

func printDecision(w io.Writer, op event.Operation, object string, d policy.Decision) error {
	var out strings.Builder
	fmt.Fprintf(&out, "%s %s: %s\n", op, printable(object), d.Verdict)
	line := func(name, value string) {
		if value != "" {
			fmt.Fprintf(&out, "  %-7s %s\n", name, printable(value))
		}
	}
	line("reason", d.Reason.String())
	line("rule", d.Rule.String())
	line("text", d.Text)
	line("fix", d.Fix)
	_, err := io.WriteString(w, out.String())
	return err
}
