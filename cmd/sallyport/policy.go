package main

import (
	"fmt"
	"io"
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
		Short: "Write, check, show and explain policies",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(policyInitCommand(), policyCheckCommand(), policyShowCommand(), policyExplainCommand(), policySuggestCommand(),
		policyTrustCommand(), policySchemaCommand())
	return cmd
}

func policyCheckCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "check [FILE...]",
		Short: "List every problem of a policy, and what in it has no effect",
		Long: `List every problem of a policy, and what in it has no effect. Several files
are checked as the one policy they make together; a file named .sallyport.yaml
also as what it is to a project, which may give fewer keys. The status is 1 if
there is a problem.`,
		Example: "  sallyport policy check\n  sallyport policy check .sallyport.yaml",
	}
	flags := addPolicyFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		p, err := flags.load(cmd, args...)
		if err != nil {
			return err
		}
		if err := checkProjects(cmd, args); err != nil {
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

// checkProjects reads projects' files as a run would, if they were trusted.
func checkProjects(cmd *cobra.Command, names []string) error {
	for _, name := range names {
		if filepath.Base(name) != sallyport.ProjectPolicy {
			continue
		}
		problems, err := sallyport.CheckProject(name)
		if len(problems) > 0 {
			printProblems(cmd.ErrOrStderr(), problems)
			return problem(fmt.Errorf("the policy has %s", count(len(problems), "problem")), "")
		}
		if err != nil {
			return problem(err, "")
		}
	}
	return nil
}
