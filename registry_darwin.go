package sallyport

import (
	"context"
	"time"

	"github.com/sallyport/sallyport/seatbelt"
)

// Stop ends a running sandbox, by its id or name: its command gets SIGTERM, and
// after the grace SIGKILL. It returns when the sandbox has ended and its record
// is complete.
func Stop(ctx context.Context, what string, grace time.Duration) error {
	return asError(macStop(ctx, seatbelt.System{}, what, grace))
}

// Exec runs a program in a running sandbox and gives its exit status, as Run
// does. An *Error says that it was not started.
func Exec(o ExecOptions) (int, error) {
	status, err := macExec(seatbelt.System{}, o)
	return status, asError(err)
}

// Clean removes what runs of the caller's have left whose supervisor was killed:
// their processes, their temporary directories, entries in the list of running
// sandboxes. It names what it removed. The next run would do the same; what runs
// is not touched.
func Clean() (removed []string, err error) { return macSweep(seatbelt.System{}) }

func askSocket(e Running) string { return e.AskSocket() }
