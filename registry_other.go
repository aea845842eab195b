//go:build !linux && !darwin

package sallyport

import (
	"context"
	"time"

	"github.com/sallyport/sallyport/sandbox"
)

// List gives nothing: nothing runs on this system.
func List() []Running { return nil }

// Stop is for Linux and macOS.
func Stop(context.Context, string, time.Duration) error { return asError(sandbox.ErrUnsupported) }

// Exec is for Linux and macOS.
func Exec(ExecOptions) (int, error) { return statusFailed, asError(sandbox.ErrUnsupported) }

// Clean does nothing.
func Clean() (removed []string, err error) { return nil, nil }

func askSocket(Running) string { return "" }
