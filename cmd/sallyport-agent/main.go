// Command sallyport-agent is what sallyport does not carry into its sandboxes:
// the agent of a machine, and what sends a run's record on.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport"
	"github.com/sallyport/sallyport/internal/outlets"
)

// version is set by the release build (-ldflags -X main.version=…).
var version = "(devel)"

var errNotRoot = errors.New("the agent needs root")

func main() {
	sallyport.Init()
	os.Exit(execute(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// rootCommand is the agent itself.
func rootCommand() *cobra.Command {
	root := agentCommand()
	root.SilenceErrors, root.SilenceUsage = true, true
	root.CompletionOptions.DisableDefaultCmd = true
	root.AddCommand(&cobra.Command{
		Use: "outlets", Hidden: true, Args: cobra.NoArgs,
		Short: "Carry the record of a run on, as standard input says; 'sallyport run' starts it",
		RunE:  func(cmd *cobra.Command, _ []string) error { return outlets.Serve(cmd.InOrStdin(), cmd.OutOrStdout()) },
	})
	root.AddCommand(extra...)
	return root
}

// extra commands are those of builds with a purpose of their own.
var extra []*cobra.Command

// execute runs one command line and returns the exit status.
func execute(ctx context.Context, args []string, in io.Reader, out, errOut io.Writer) int {
	root := rootCommand()
	root.SetArgs(args)
	root.SetIn(in)
	root.SetOut(out)
	root.SetErr(errOut)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	fmt.Fprintf(errOut, "sallyport-agent: error: %v\n", err)
	if errors.Is(err, errNotRoot) {
		fmt.Fprintln(errOut, "sallyport-agent: hint: run it with sudo, or as a system service (docs/agent.md)")
	}
	return 1
}

func warn(w io.Writer, message, hint string) {
	fmt.Fprintf(w, "sallyport-agent: warning: %s\n", message)
	if hint != "" {
		fmt.Fprintf(w, "sallyport-agent: hint: %s\n", hint)
	}
}
