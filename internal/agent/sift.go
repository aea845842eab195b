package agent

import (
	"time"

	"github.com/sallyport/sallyport/internal/event"
	"github.com/sallyport/sallyport/internal/policy"
	"github.com/sallyport/sallyport/loader"
)

// Sifter makes events of what was seen of one sandbox: whose denial it is, one
// event for what two layers saw, one for many in a flood. It need not be safe for
// concurrent use.
type Sifter interface {
	// Denied takes what the kernel saw and gives what is to be recorded now.
	Denied(r loader.Record, policy func() *policy.Policy, now time.Time) []event.Event
	// Reported notes what the user's process saw and has recorded.
	Reported(event.Event)
	// Tick gives what was held back until now, Flush all that is held back.
	Tick(now time.Time) []event.Event
	Flush() []event.Event
	// Held is how many attempts are held back.
	Held() uint64
}

// plain records everything as it comes.
type plain struct{}

func (plain) Denied(r loader.Record, _ func() *policy.Policy, _ time.Time) []event.Event {
	return []event.Event{r.Event}
}
func (plain) Reported(event.Event)         {}
func (plain) Tick(time.Time) []event.Event { return nil }
func (plain) Flush() []event.Event         { return nil }
func (plain) Held() uint64                 { return 0 }
