package event

import (
	"sort"
	"time"
)

// Upstream says why an allowed destination could not be reached.
type Upstream uint8

const (
	UpstreamOther Upstream = iota
	UpstreamName           // it has no address
	UpstreamRefused
	UpstreamTimeout
	UpstreamUnreachable
)

var upstreamNames = []string{"other", "name", "refused", "timeout", "unreachable"}

func (u Upstream) String() string               { return name(upstreamNames, u) }
func (u Upstream) MarshalText() ([]byte, error) { return marshal("upstream error", upstreamNames, u) }
func (u *Upstream) UnmarshalText(b []byte) error {
	return unmarshal("upstream error", upstreamNames, u, b)
}

// Upstreams lists every reason's name in order of value.
func Upstreams() []string { return append([]string(nil), upstreamNames...) }

// Start says what became of the start of a sandbox.
type Start uint8

const (
	StartFailed Start = iota
	StartRefused
	Started
)

var startNames = []string{"failed", "refused", "started"}

func (s Start) String() string                { return name(startNames, s) }
func (s Start) MarshalText() ([]byte, error)  { return marshal("start", startNames, s) }
func (s *Start) UnmarshalText(b []byte) error { return unmarshal("start", startNames, s, b) }

// Starts lists every outcome's name in order of value.
func Starts() []string { return append([]string(nil), startNames...) }

// durationBounds are those of every histogram, in seconds: 10 µs to 10 s.
var durationBounds = [...]float64{1e-5, 1e-4, 5e-4, 1e-3, 5e-3, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10}

// DurationBounds gives the upper bounds of Durations.Buckets, in seconds.
func DurationBounds() []float64 { return append([]float64(nil), durationBounds[:]...) }

// Durations is a histogram.
type Durations struct {
	Count   uint64                      `json:"count,omitempty"`
	Nanos   uint64                      `json:"nanos,omitempty"` // sum
	Buckets [len(durationBounds)]uint64 `json:"buckets"`         // each of its own, not cumulative
}

// Observe counts a duration in.
func (d *Durations) Observe(t time.Duration) {
	t = max(t, 0)
	d.Count++
	d.Nanos += uint64(t)
	if i := sort.SearchFloat64s(durationBounds[:], t.Seconds()); i < len(d.Buckets) {
		d.Buckets[i]++
	}
}

// Traffic is what a sandbox's proxy and its start count, beside the events. All
// but Open only grows.
type Traffic struct {
	Open       int64               `json:"open,omitempty"` // connections now
	BytesIn    uint64              `json:"bytes_in,omitempty"`
	BytesOut   uint64              `json:"bytes_out,omitempty"`
	DNSAllowed uint64              `json:"dns_allowed,omitempty"`
	DNSDenied  uint64              `json:"dns_denied,omitempty"`
	Upstream   map[Upstream]uint64 `json:"upstream,omitempty"`
	Decisions  Durations           `json:"decisions"`
	Starts     map[Start]uint64    `json:"starts,omitempty"`
	StartTimes Durations           `json:"start_times"`
}

// Add adds a difference; Open becomes the sum of both.
func (t *Traffic) Add(d Traffic) { t.combine(d, func(a, b uint64) uint64 { return a + b }, 1) }

// Since gives what t has more than before.
func (t Traffic) Since(before Traffic) Traffic {
	t.combine(before, func(a, b uint64) uint64 { return a - min(a, b) }, -1)
	return t
}

func (t *Traffic) combine(o Traffic, f func(a, b uint64) uint64, sign int64) {
	t.Open += sign * o.Open
	t.BytesIn, t.BytesOut = f(t.BytesIn, o.BytesIn), f(t.BytesOut, o.BytesOut)
	t.DNSAllowed, t.DNSDenied = f(t.DNSAllowed, o.DNSAllowed), f(t.DNSDenied, o.DNSDenied)
	t.Upstream, t.Starts = combined(t.Upstream, o.Upstream, f), combined(t.Starts, o.Starts, f)
	for _, h := range []struct{ a, b *Durations }{{&t.Decisions, &o.Decisions}, {&t.StartTimes, &o.StartTimes}} {
		h.a.Count, h.a.Nanos = f(h.a.Count, h.b.Count), f(h.a.Nanos, h.b.Nanos)
		for i := range h.a.Buckets {
			h.a.Buckets[i] = f(h.a.Buckets[i], h.b.Buckets[i])
		}
	}
}

func combined[K comparable](a, b map[K]uint64, f func(a, b uint64) uint64) map[K]uint64 {
	out := cloned(a)
	for k, n := range b {
		out[k] = f(out[k], n)
	}
	return out
}

// Bounded gives t, a difference that somebody else reports, with nothing in it
// that could not be: no number so large that the sum might wrap, no more
// observations in buckets than there are, no unknown key.
func (t Traffic) Bounded() Traffic {
	const most = 1 << 44 // bytes; of everything else there is less
	t.combine(Traffic{}, func(a, _ uint64) uint64 { return min(a, most) }, 0)
	t.Open = min(max(t.Open, 0), 1<<20)
	for u := range t.Upstream {
		if int(u) >= len(upstreamNames) {
			delete(t.Upstream, u)
		}
	}
	t.Starts, t.StartTimes = nil, Durations{} // not the proxy's to tell
	d := &t.Decisions
	left := d.Count
	for i := range d.Buckets {
		d.Buckets[i] = min(d.Buckets[i], left)
		left -= d.Buckets[i]
	}
	return t
}

// Export is what became of events on their way to somebody else's store.
type Export struct {
	Sent     uint64 `json:"sent"`
	Lost     uint64 `json:"lost"`     // refused by the other side for good, or removed before they were sent
	Failures uint64 `json:"failures"` // attempts to send that will be repeated
	Behind   int64  `json:"behind"`   // bytes of log that are still to be sent
}

// Program is what the kernel says of one of its programs.
type Program struct {
	Runs uint64
	Time time.Duration
}

// Map is how full a table of the kernel's programs is.
type Map struct{ Entries, Capacity uint64 }

// Figures is all that a part of sallyport that counts says of itself. Programs,
// Maps and Exports have compiled-in names as keys.
type Figures struct {
	Version   string
	Tier      Tier
	Counts    Counts
	Traffic   Traffic
	Sandboxes int
	Refused   uint64 // requests on the agent's socket
	LogBytes  int64
	Damaged   uint64 // logs whose chain is broken
	Policy    string // SHA-256 of the administrator's policy; empty: there is none
	Programs  map[string]Program
	Maps      map[string]Map
	Exports   map[string]Export
}
