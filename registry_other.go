//go:build !linux

package sallyport

import (
	"context"
	"time"

	"github.com/sallyport/sallyport/sandbox"
)

// List gives nothing: runs are not listed on this system yet.
func List() []Running { return nil }

// Stop is for Linux.
func Stop(context.Context, string, time.Duration) error { return asError(sandbox.ErrUnsupported) }

// Exec is for Linux.
func Exec(ExecOptions) (int, error) { return statusFailed, asError(sandbox.ErrUnsupported) }

// Clean does nothing: runs on this system leave nothing that the next would have
// to sweep.
func Clean() (removed []string, err error) { return nil, nil }

func askSocket(Running) string { return "" }
