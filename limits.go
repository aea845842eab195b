package sallyport

import (
	"time"

	"github.com/sallyport/sallyport/internal/policy"
)

// timeLimit is the lesser of the times that a run may take; 0: for ever.
func timeLimit(asked time.Duration, l policy.Limits) time.Duration {
	if l.Time > 0 && (asked <= 0 || l.Time < asked) {
		return l.Time
	}
	return asked
}
