// Command testvm runs sallyport's tests in virtual machines with real kernels.
// Inside of them it is also what runs the tests.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

const usage = `usage: testvm COMMAND [FLAGS] [ARGUMENTS]

  fetch [MACHINE...]   resolve the newest kernels, build what machines start from
  run MACHINE [--] PROGRAM [ARGUMENTS]
                       run one program as root in a machine
  test MACHINE...      run the tests on some machines
  matrix               run the tests on every machine; --ci: on the few of every change
  bypasses [MACHINE...]
                       try the ways around on some machines, or every kernel, and write the document
  vagrant [NAME...]    run the tests through Vagrant on boxes built here
  packages -deb FILE   install, upgrade and purge a package on fresh machines
  list                 print the machines of the matrix

A machine is KERNEL-INIT or KERNEL-INIT-BOOT. For example:

  testvm run 6.1-plain -- uname -r
`

// command is one subcommand.
type command func(ctx context.Context, args []string) error

var commands = map[string]command{
	"fetch": fetch, "run": runOne, "test": test, "matrix": runMatrix, "vagrant": runVagrant, "list": list,
	"bypasses": runBypasses, "packages": runPackages, "payload": payload, "guest": runGuest, "survey": survey,
}

// errFailed: everything was said already.
var errFailed = errors.New("failed")

// usageError is answered with status 2.
type usageError struct{ error }

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(execute(ctx, os.Args[1:]))
}

func execute(ctx context.Context, args []string) int {
	if len(args) == 0 {
		fmt.Fprint(os.Stderr, usage)
		return 2
	}
	run, ok := commands[args[0]]
	if !ok {
		fmt.Fprintf(os.Stderr, "testvm: no command %q\n\n%s", args[0], usage)
		return 2
	}
	err := run(ctx, args[1:])
	var wrong usageError
	switch {
	case err == nil || errors.Is(err, flag.ErrHelp):
		return 0
	case errors.As(err, &wrong):
		fmt.Fprintf(os.Stderr, "testvm: %v\n", err)
		return 2
	case errors.Is(err, errFailed):
		return 1
	}
	fmt.Fprintf(os.Stderr, "testvm: %v\n", err)
	return 1
}
