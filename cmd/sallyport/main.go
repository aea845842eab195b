// Command sallyport runs a command inside a boundary that the kernel enforces,
// and keeps a record of everything that tried to cross it.
//
//go:debug containermaxprocs=0
//go:debug updatemaxprocs=0
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport"
)

// Exit statuses of every command but run, which passes its child's through and
// uses exitRun for its own failures.
const (
	exitProblem = 1
	exitUsage   = 2
	exitRun     = 125
)

// statusError is an error that carries its exit status, and a hint that says
// what to do about it.
type statusError struct {
	status int
	err    error // nil: nothing to say, only the status
	hint   string
}

func (e *statusError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit status %d", e.status)
	}
	return e.err.Error()
}

func (e *statusError) Unwrap() error { return e.err }

// problem is what a command returns when it worked and found something wrong.
func problem(err error, hint string) error {
	return &statusError{status: exitProblem, err: err, hint: hint}
}

func main() {
	sallyport.Init()
	os.Exit(execute(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// execute runs one command line and returns the exit status.
func execute(ctx context.Context, args []string, in io.Reader, out, errOut io.Writer) int {
	root := rootCommand()
	root.SetArgs(args)
	root.SetIn(in)
	root.SetOut(out)
	root.SetErr(errOut)
	return report(errOut, root.ExecuteContext(ctx))
}

// report prints an error the one way errors are printed and gives the status.
func report(w io.Writer, err error) int {
	if err == nil {
		return 0
	}
	var se *statusError
	if !errors.As(err, &se) {
		se = &statusError{status: exitUsage, err: err, hint: "see 'sallyport help'"}
	}
	if se.err != nil {
		fmt.Fprintf(w, "sallyport: error: %v\n", se.err)
	}
	if se.hint != "" {
		fmt.Fprintf(w, "sallyport: hint: %s\n", se.hint)
	}
	return se.status
}

// extra commands are those of builds with a purpose of their own.
var extra []*cobra.Command

func rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:           "sallyport",
		Short:         "Run a command inside a boundary that the kernel enforces, and record what tried to cross it",
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.NoArgs,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.CompletionOptions.HiddenDefaultCmd = true
	root.AddCommand(runCommand(), srtCommand(), psCommand(), stopCommand(), execCommand(), askCommand(), auditCommand(), policyCommand(), doctorCommand(), versionCommand())
	root.AddCommand(agentCommands()...)
	root.AddCommand(extra...)
	return root
}
