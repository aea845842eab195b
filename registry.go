package sallyport

import (
	"os"

	"github.com/sallyport/sallyport/internal/registry"
)

// Running is a sandbox that runs.
type Running = registry.Entry

// ExecOptions say what to run in which running sandbox.
type ExecOptions struct {
	Sandbox string // id, its beginning, or name
	Command []string
	Dir     string   // as it is named inside; default: that of the sandbox
	Env     []string // "NAME=VALUE", added to the sandbox's
	// Stdin, Stdout and Stderr become the program's; default: the caller's.
	Stdin, Stdout, Stderr *os.File
}
