package audit

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sallyport/sallyport/internal/event"
)

// sink keeps what it is given, or refuses it.
type sink struct {
	mu      sync.Mutex
	events  []event.Event
	refuse  error
	refused uint64
}

func (s *sink) Append(e event.Event) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.refuse != nil {
		s.refused += e.Count
		return s.refuse
	}
	s.events = append(s.events, e)
	return nil
}

func (s *sink) setRefuse(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refuse = err
}

func (s *sink) counts() (out []uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.events {
		out = append(out, e.Count)
	}
	return out
}

func (s *sink) total() (n uint64) {
	for _, c := range s.counts() {
		n += c
	}
	return n
}

// attempt is one attempt now.
func attempt(host event.Text) event.Event {
	e := at(0)
	e.Time, e.Object.Host = time.Time{}, host
	return e
}

func appendAll(t *testing.T, a *Aggregator, events ...event.Event) {
	t.Helper()
	for _, e := range events {
		if err := a.Append(e); err != nil {
			t.Fatal(err)
		}
	}
}

func TestRepeatsBecomeOneEventAtTheEndOfTheWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &sink{}
		a := NewAggregator(s, AggregatorOptions{})
		start := time.Now()
		for range 4 {
			appendAll(t, a, attempt("a"))
			time.Sleep(time.Second)
		}
		if got := fmt.Sprint(s.counts()); got != "[1]" {
			t.Fatalf("within the window: counts %s, want the first alone", got)
		}
		time.Sleep(time.Second + time.Millisecond)
		synctest.Wait()
		if got := fmt.Sprint(s.counts()); got != "[1 3]" {
			t.Fatalf("after the window: counts %s", got)
		}
		e := s.events[1]
		if !e.First.Equal(start.Add(time.Second)) || !e.Last.Equal(start.Add(3*time.Second)) || e.Object.Host != "a" {
			t.Errorf("the repeats are told as %+v", e)
		}
		appendAll(t, a, attempt("a"))
		if got := fmt.Sprint(s.counts()); got != "[1 3 1]" {
			t.Errorf("a new window: counts %s, want its first at once", got)
		}
		if err := a.Close(); err != nil {
			t.Fatal(err)
		}
	}) // synctest fails if a goroutine is left
}

func TestWhatDiffersIsNotJoined(t *testing.T) {
	base := attempt("a")
	for name, change := range map[string]func(*event.Event){
		"layer":     func(e *event.Event) { e.Layer = event.LayerNFT },
		"operation": func(e *event.Event) { e.Operation = event.NetUDP },
		"host":      func(e *event.Event) { e.Object.Host = "b" },
		"port":      func(e *event.Event) { e.Object.Port++ },
		"address":   func(e *event.Event) { e.Object.Addr = "10.0.0.1" },
		"verdict":   func(e *event.Event) { e.Verdict = event.AskDenied },
		"reason":    func(e *event.Event) { e.Reason = event.RuleDenied },
		"rule":      func(e *event.Event) { e.Rule = "p:2" },
		"errno":     func(e *event.Event) { e.Errno = "EPERM" },
		"sandbox":   func(e *event.Event) { e.Sandbox.ID = "other" },
		"process":   func(e *event.Event) { e.Process = &event.Process{PID: 7, ExecID: "7:2"} },
		"nobody":    func(e *event.Event) { e.Process = nil },
	} {
		s := &sink{}
		a := NewAggregator(s, AggregatorOptions{})
		other := base
		change(&other)
		appendAll(t, a, base, other)
		if len(s.counts()) != 2 {
			t.Errorf("another %s was joined", name)
		}
		_ = a.Close()
	}
}

func TestAllowedConnectionsToOneHostAreJoinedWhateverTheAddress(t *testing.T) {
	s := &sink{}
	a := NewAggregator(s, AggregatorOptions{})
	for _, addr := range []string{"192.0.2.1", "192.0.2.2"} {
		e := attempt("a")
		e.Verdict, e.Object.Addr = event.Allow, addr
		appendAll(t, a, e)
	}
	if len(s.counts()) != 1 || s.events[0].Object.Addr != "192.0.2.1" {
		t.Errorf("written: %+v", s.events)
	}
	_ = a.Close()
}

func TestFlushWritesRepeatsAtOnce(t *testing.T) {
	s := &sink{}
	a := NewAggregator(s, AggregatorOptions{Window: time.Hour})
	many := attempt("a")
	many.Count = 40
	many.First, many.Last = noon, noon.Add(time.Minute)
	appendAll(t, a, attempt("a"), many, attempt("b"), many)
	if err := a.Flush(); err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(s.counts()); got != "[1 1 80]" {
		t.Errorf("counts %s", got)
	}
	if e := s.events[2]; !e.First.Equal(noon) || !e.Last.Equal(noon.Add(time.Minute)) {
		t.Errorf("first %v, last %v", e.First, e.Last)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	appendAll(t, a, attempt("a"), attempt("a"))
	if got := fmt.Sprint(s.counts()); got != "[1 1 80 1 1]" {
		t.Errorf("after Close: counts %s, want what comes late written as it is", got)
	}
}

func TestTheNumberOfWindowsIsBounded(t *testing.T) {
	s := &sink{}
	a := NewAggregator(s, AggregatorOptions{Window: time.Hour, Keys: 3})
	for i := range 100 {
		host := event.Text(fmt.Sprint(i))
		appendAll(t, a, attempt(host), attempt(host))
		if n := len(a.kinds); n > 3 || n != a.oldest.Len() {
			t.Fatalf("%d windows", n)
		}
	}
	if got := s.total(); got != 200-3 {
		t.Errorf("%d attempts written before the flush, want all but the last windows' 3 repeats", got)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if got := s.total(); got != 200 {
		t.Errorf("%d attempts written, want 200", got)
	}
}

func TestErrorsReachACallerAndNothingIsCountedTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		full := errors.New("full")
		s := &sink{}
		a := NewAggregator(s, AggregatorOptions{})
		appendAll(t, a, attempt("a"), attempt("a"), attempt("a"))
		s.setRefuse(full)
		time.Sleep(6 * time.Second) // the timer writes, and no caller is there
		synctest.Wait()
		s.setRefuse(nil)
		if err := a.Append(attempt("b")); !errors.Is(err, full) {
			t.Errorf("the next Append gave %v", err)
		}
		if err := a.Close(); err != nil {
			t.Errorf("the error came twice: %v", err)
		}
		if s.total() != 2 || s.refused != 2 {
			t.Errorf("%d written, %d refused, want 2 and 2", s.total(), s.refused)
		}
	})
}

func TestCountsAddUpToTheAttemptsWhateverHappens(t *testing.T) {
	for seed := range uint64(20) {
		synctest.Test(t, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 0))
			s := &sink{}
			a := NewAggregator(s, AggregatorOptions{Keys: 5})
			var wg sync.WaitGroup
			want := uint64(0)
			for range 4 {
				n := 100 + rng.IntN(100)
				want += uint64(n)
				r := rand.New(rand.NewPCG(seed, rng.Uint64()))
				wg.Go(func() {
					for range n {
						if err := a.Append(attempt(event.Text(fmt.Sprint(r.IntN(8))))); err != nil {
							t.Error(err)
						}
						time.Sleep(time.Duration(r.IntN(3000)) * time.Millisecond)
						if r.IntN(50) == 0 {
							_ = a.Flush()
						}
					}
				})
			}
			wg.Wait()
			if err := a.Close(); err != nil {
				t.Fatal(err)
			}
			if got := s.total(); got != want {
				t.Errorf("seed %d: counts add up to %d, want %d", seed, got, want)
			}
		})
	}
}
