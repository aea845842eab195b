package sallyport

import (
	"context"

	"github.com/sallyport/sallyport/internal/plan"
	"github.com/sallyport/sallyport/sandbox"
	"github.com/sallyport/sallyport/seatbelt"
)

// Init must be the first thing that main does in every program that calls Run.
func Init() {}

type prepared struct{ plan *plan.Plan }

// prepare plans a run on Linux, which cannot be done here: see MacProfile.
func prepare(*Options) (*prepared, error) { return nil, sandbox.ErrUnsupported }

func sandboxAdvice(_ error, status int) (string, int) { return "", status }

// Run runs a command inside a boundary and returns when it has ended and its
// record is complete. An *Error says that the boundary could not be put up: the
// command was not started then. Cancelling ctx ends the command.
func Run(ctx context.Context, o Options) (*Result, error) { return runMac(ctx, seatbelt.System{}, o) }

// Doctor tries what a run needs on this machine.
func Doctor(ctx context.Context) Diagnosis { return macDoctor(ctx, seatbelt.System{}) }
