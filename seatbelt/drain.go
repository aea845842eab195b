package seatbelt

import (
	"fmt"
	"hash/maphash"
	"strconv"
	"time"
)

// maxRestarts bounds how often a log that ends by itself is started again.
const maxRestarts = 5

// watch starts the log again when it ends before its time. What was refused
// meanwhile is looked up when the run ends.
func (s *Stream) watch() {
	for range maxRestarts {
		<-s.finished
		if !s.missing() {
			return
		}
		err := s.ended()
		if !s.reopen(err) {
			return
		}
	}
	<-s.finished
	if s.missing() {
		s.incomplete(fmt.Sprintf("the log ended by itself %d times: %v", maxRestarts+1, s.ended()))
	}
}

// missing notes that records may be missing from now on, unless the stream is
// being stopped.
func (s *Stream) missing() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.stopping && s.gap.IsZero() {
		s.gap = time.Now()
	}
	return !s.stopping
}

// reopen starts the program anew unless the stream is being stopped.
func (s *Stream) reopen(ended error) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopping {
		return false
	}
	if err := s.open(); err != nil {
		s.stats.Incomplete = append(s.stats.Incomplete, fmt.Sprintf("the log ended by itself (%v) and did not start again: %v", ended, err))
		return false
	}
	return true
}

// Stop proves that everything refused so far has arrived, by one more refusal
// that must come last, ends the program and says how complete the record is.
// It is called once.
func (s *Stream) Stop() StreamStats {
	drained := s.drain()
	s.mu.Lock()
	s.stopping = true
	since := s.gap
	if !drained && (since.IsZero() || s.heard.Before(since)) {
		since = s.heard // whenever it was that it stalled
	}
	s.mu.Unlock()
	s.end()
	if !since.IsZero() {
		s.lookUp(since)
	}
	s.order.flush()
	s.mu.Lock()
	defer s.mu.Unlock()
	out := s.stats
	out.Incomplete = append([]string(nil), s.stats.Incomplete...)
	return out
}

// drain waits for the last canary.
func (s *Stream) drain() bool {
	deadline := time.Now().Add(s.cfg.Drain)
	for time.Now().Before(deadline) {
		if err := s.last.provoke(time.Until(deadline)); err != nil {
			return false
		}
		select {
		case <-s.last.seen:
			return true
		case <-time.After(min(s.cfg.Try, time.Until(deadline))):
		}
	}
	return false
}

// end ends the program and waits for its reader.
func (s *Stream) end() {
	s.mu.Lock()
	p, finished := s.process, s.finished
	s.mu.Unlock()
	if p == nil {
		return
	}
	_ = p.Terminate() // ended already: nothing to end
	select {
	case <-finished:
	case <-time.After(s.cfg.End):
		_ = p.Kill()
		<-finished
	}
	_, _ = p.Wait() // how it ended says nothing any more
}

// lookUp reads from the stored log what the stream may have missed.
func (s *Stream) lookUp(since time.Time) {
	last := 10*time.Second + time.Since(since)
	p, err := s.cfg.Exec.Start(Command{Path: logProgram, Env: plainEnv, Args: []string{"show", "--style", "ndjson", "--info", "--debug",
		"--last", strconv.Itoa(int(last.Seconds())+1) + "s", "--predicate", predicate(s.cfg.Tag)}})
	if err != nil {
		s.incomplete(fmt.Sprintf("the end of the log was not seen: %v", err))
		return
	}
	timer := time.AfterFunc(showLimit, func() { _ = p.Kill() })
	defer timer.Stop()
	s.read(NewScanner(p.Output()))
	code, err := p.Wait()
	switch {
	case err != nil:
		s.incomplete(fmt.Sprintf("the end of the log was not seen: %v", err))
	case code != 0:
		s.incomplete(fmt.Sprintf("the end of the log was not seen: %v", logError(code, p.Errors())))
	case !s.last.wasSeen():
		s.incomplete("the end of the log was not seen: the last refusal did not arrive")
	}
}

const showLimit = 20 * time.Second

func (c *canary) wasSeen() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.done
}

// recent remembers records, to tell those that are shown twice. It forgets the
// oldest: a violation counted twice is better than memory that grows.
type recent struct {
	seed maphash.Seed
	set  map[uint64]struct{}
	ring []uint64
	next int
}

const recentRecords = 1 << 15

func newRecent() recent {
	return recent{seed: maphash.MakeSeed(), set: map[uint64]struct{}{}, ring: make([]uint64, 0, 64)}
}

// add reports whether a record is new. One without the kernel's clock always is.
func (m *recent) add(r Record) bool {
	if r.Mach == 0 {
		return true
	}
	h := maphash.String(m.seed, r.Text) ^ r.Mach*0x9e3779b97f4a7c15
	if _, known := m.set[h]; known {
		return false
	}
	m.set[h] = struct{}{}
	if len(m.ring) < recentRecords {
		m.ring = append(m.ring, h)
		return true
	}
	delete(m.set, m.ring[m.next])
	m.ring[m.next] = h
	m.next = (m.next + 1) % recentRecords
	return true
}
