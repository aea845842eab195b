package seatbelt

import (
	"slices"
	"sort"
	"sync"
	"time"
)

// The log shows a record when it has collected it, which is not always in the
// order in which the kernel wrote them: each is held for as long as one that
// comes before it may take.
const (
	holdFor  = 50 * time.Millisecond
	holdMost = 4096 // records; what a burst has more goes on at once
)

// sequence puts records that arrive within a short time into the order of the
// kernel's clock. What comes later than that is late: it goes on when it comes.
type sequence struct {
	emit  func(Record, Violation, Attribution)
	mu    sync.Mutex // held while emitting, too, which makes it an order
	held  []heldRecord
	timer *time.Timer
}

type heldRecord struct {
	r       Record
	v       Violation
	by      Attribution
	at      uint64 // of the kernel's clock
	arrived time.Time
}

func (s *sequence) add(r Record, v Violation, by Attribution, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i, at := len(s.held), r.Mach
	if at != 0 {
		i = sort.Search(len(s.held), func(i int) bool { return s.held[i].at > at })
	} else if i > 0 { // without the clock it stays where it came
		at = s.held[i-1].at
	}
	s.held = slices.Insert(s.held, i, heldRecord{r, v, by, at, now})
	if len(s.held) > holdMost {
		s.release(holdMost / 2)
	}
	if s.timer == nil {
		s.timer = time.AfterFunc(holdFor, s.tick)
	}
}

func (s *sequence) tick() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.timer = nil
	s.release(s.ripe(time.Now()))
	if len(s.held) > 0 {
		s.timer = time.AfterFunc(holdFor, s.tick)
	}
}

// ripe gives how many can go on: all up to the last that was held long enough.
func (s *sequence) ripe(now time.Time) int {
	for i := len(s.held) - 1; i >= 0; i-- {
		if now.Sub(s.held[i].arrived) >= holdFor {
			return i + 1
		}
	}
	return 0
}

func (s *sequence) release(n int) {
	for _, h := range s.held[:n] {
		s.emit(h.r, h.v, h.by)
	}
	s.held = slices.Delete(s.held, 0, n)
}

// flush is for when nothing more comes.
func (s *sequence) flush() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.release(len(s.held))
}
