//go:build !linux && !darwin

package sallyport

import (
	"context"

	"github.com/sallyport/sallyport/internal/event"
	"github.com/sallyport/sallyport/internal/plan"
	"github.com/sallyport/sallyport/sandbox"
)

// Init must be the first thing that main does in every program that calls Run.
func Init() {}

type prepared struct{ plan *plan.Plan }

func prepare(*Options) (*prepared, error) { return nil, sandbox.ErrUnsupported }

func sandboxAdvice(_ error, status int) (string, int) { return "", status }

// Run runs a command inside a boundary; there is none on this system yet.
func Run(context.Context, Options) (*Result, error) { return nil, asError(sandbox.ErrUnsupported) }

// Doctor says what this machine lacks.
func Doctor(context.Context) Diagnosis {
	d := Diagnosis{Tier: event.TierNone}
	d.add("system", StateMissing, sandbox.ErrUnsupported.Error(), "run on Linux or macOS")
	return d
}
