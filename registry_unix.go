//go:build linux || darwin

package sallyport

import (
	"fmt"
	"os"
	"time"

	"github.com/sallyport/sallyport/internal/registry"
)

// registryDirs are the caller's.
func registryDirs() []string {
	home, _ := os.UserHomeDir() // the runtime directory may do
	return registry.Dirs(os.Getenv, home, os.Geteuid())
}

// List gives the caller's running sandboxes, oldest first.
func List() []Running { return registry.List(registryDirs(), registry.Here()) }

// find gives the one sandbox that is meant by an id, its beginning, or a name.
func find(what string) (Running, error) {
	e, err := registry.Find(List(), what)
	if err != nil {
		return e, &Error{Err: fmt.Errorf("find sandbox %s: %w", what, err), Status: statusFailed,
			Hint: "'sallyport ps' lists what is running"}
	}
	return e, nil
}

// killGrace is how long a supervisor has to end after its command was killed.
const killGrace = 5 * time.Second

// clientGrace is how long a run that has ended waits for who asks it something.
const clientGrace = time.Second
