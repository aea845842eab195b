package main

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport"
)

type execFlags struct {
	dir  string
	env  []string
	user string
}

func execCommand() *cobra.Command {
	var f execFlags
	cmd := &cobra.Command{
		Use:   "exec [flags] ID|NAME [--] COMMAND [ARG]...",
		Short: "Run another command in a sandbox that runs",
		Long: `Run another command in a sandbox, named by its id, the beginning of its id (at
least four characters), or its name.

It has what the sandbox's command has, and no more: namespaces, mounts, Landlock,
system call filter, environment, proxy and record are the same. What it does is
the sandbox's doing; a command in the sandbox can see and signal it, and read
what is typed to it. The policy is that of the run and does not change.

Where standard input, output or error is a terminal, the command has a terminal
of its own in its place (not on macOS). It ends with the sandbox, and with this process if that
is killed; what it leaves running stays until the sandbox ends.

The exit status is the command's; 128 and the signal's number if one killed it,
as when the sandbox ends; 125 if the sandbox could not be asked; 126 or 127 if
the command could not be executed or was not found.`,
		Example: `  sallyport run --name build -- make all
  sallyport exec build bash
  sallyport exec -C /tmp -e TRACE=1 build -- ls -l`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) < 2 {
				return runError(errors.New("a sandbox and a command are needed"), "see 'sallyport help exec'")
			}
			return nil
		},
		RunE: func(_ *cobra.Command, args []string) error { return execIn(f, args) },
	}
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return runError(err, "see 'sallyport help exec'") })
	flags := cmd.Flags()
	flags.SetInterspersed(false) // what follows the sandbox is the command's
	flags.StringVarP(&f.dir, "chdir", "C", "", "run in `DIR`, as the sandbox names it")
	flags.StringArrayVarP(&f.env, "env", "e", nil, "pass `NAME`, or set NAME=VALUE (repeatable)")
	addUserFlag(cmd, &f.user)
	return cmd
}

func execIn(f execFlags, args []string) error {
	if f.user != "" {
		if err := becomeUser(f.user); err != nil {
			return err
		}
	}
	env, err := givenEnv(f.env)
	if err != nil {
		return err
	}
	command := args[1:]
	if command[0] == "--" {
		command = command[1:]
	}
	if len(command) == 0 {
		return runError(errors.New("a command is needed"), "see 'sallyport help exec'")
	}
	status, err := sallyport.Exec(sallyport.ExecOptions{Sandbox: args[0], Command: command, Dir: f.dir, Env: env})
	var e *sallyport.Error
	switch {
	case errors.As(err, &e):
		return &statusError{status: e.Status, err: err, hint: e.Hint}
	case err != nil:
		return runError(err, "")
	case status != 0:
		return &statusError{status: status}
	}
	return nil
}

// givenEnv completes names with the caller's values; one that is not set is not
// passed.
func givenEnv(given []string) ([]string, error) {
	var env []string
	for _, e := range given {
		name, _, set := strings.Cut(e, "=")
		if name == "" || strings.ContainsRune(e, 0) {
			return nil, runError(fmt.Errorf("--env %q: no name", e), "give NAME or NAME=VALUE")
		}
		if !set {
			value, ok := os.LookupEnv(name)
			if !ok {
				continue
			}
			e = name + "=" + value
		}
		env = append(env, e)
	}
	return env, nil
}
