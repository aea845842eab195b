package agent

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"time"

	"github.com/sallyport/sallyport/internal/audit"
	"github.com/sallyport/sallyport/internal/event"
	"github.com/sallyport/sallyport/internal/policy"
	"github.com/sallyport/sallyport/loader"
)

// Figures is what the agent counts: no key in it is a user's or a payload's to
// choose. Runs of the kernel's programs are read as it is called.
func (s *Server) Figures() event.Figures {
	f := event.Figures{Version: s.opts.Version, Tier: s.tier, Counts: s.logs.counts(), LogBytes: s.logs.bytes(),
		Refused: s.refused.Load(), Damaged: s.damaged.Load(), Policy: sumOf(*s.ceiling.Load()), Programs: s.load.Programs()}
	s.mu.Lock()
	defer s.mu.Unlock()
	f.Sandboxes, f.Maps = len(s.boxes), s.maps
	f.Traffic = s.traffic
	f.Traffic.Upstream, f.Traffic.Starts = maps.Clone(s.traffic.Upstream), maps.Clone(s.traffic.Starts)
	for _, b := range s.boxes {
		f.Traffic.Open += b.open
	}
	return f
}

// LogDir is where the machine's log lies.
func (s *Server) LogDir() string { return s.place.logs }

// reportTraffic adds what a sandbox's proxy has counted since the last time. It
// is the user's word.
func (s *Server) reportTraffic(b *box, t event.Traffic) {
	t = t.Bounded()
	s.mu.Lock()
	defer s.mu.Unlock()
	b.open, t.Open = t.Open, 0
	s.traffic.Add(t)
}

// began counts how a start went: err is that of a registration, nil that of a
// sandbox that has started.
func (s *Server) began(err error, took time.Duration) {
	outcome := event.StartFailed
	var refused *Refusal
	switch {
	case err == nil:
		outcome = event.Started
	case errors.As(err, &refused):
		outcome = event.StartRefused
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.traffic.Starts == nil {
		s.traffic.Starts = map[event.Start]uint64{}
	}
	s.traffic.Starts[outcome]++
	if err == nil {
		s.traffic.StartTimes.Observe(took)
	}
}

var errNotStarted = errors.New("the sandbox has ended before its command was started")

// sumOf names the administrator's policy by its bytes; empty: there is none.
func sumOf(sources []policy.Source) string {
	if len(sources) == 0 {
		return ""
	}
	h := sha256.New()
	for _, src := range sources {
		fmt.Fprintf(h, "%d\n", len(src.Data))
		h.Write(src.Data)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// How often the kernel's tables are counted, and the logs read whole.
const (
	countEvery  = 15 * time.Second
	verifyFirst = 10 * time.Second
	verifyEvery = time.Hour
)

// inspect looks, until ctx ends, at what takes too long for a scrape.
func (s *Server) inspect(ctx context.Context) {
	verify := time.NewTimer(verifyFirst)
	defer verify.Stop()
	count := time.NewTicker(countEvery)
	defer count.Stop()
	for s.countMaps(); ; {
		select {
		case <-ctx.Done():
			return
		case <-count.C:
			s.countMaps()
		case <-verify.C:
			s.verify(ctx)
			verify.Reset(verifyEvery)
		}
	}
}

func (s *Server) countMaps() {
	m := s.load.Maps()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.maps = m
}

// verify reads all logs and counts those whose chain is broken. It takes no more
// than half of a processor.
func (s *Server) verify(ctx context.Context) {
	names, err := s.logs.names("")
	if err != nil {
		s.warn(err.Error())
		return
	}
	damaged := uint64(0)
	for _, name := range names {
		if ctx.Err() != nil {
			return
		}
		begun := time.Now()
		f, err := os.Open(filepath.Join(s.place.logs, name))
		if err != nil {
			continue // moved away meanwhile
		}
		err = audit.Verify(f, name)
		f.Close()
		if err != nil && !errors.Is(err, audit.ErrTruncated) { // what is being written, or was by one that was killed
			damaged++
			s.warn("the log is damaged: " + err.Error())
		}
		select {
		case <-ctx.Done():
		case <-time.After(min(time.Since(begun), time.Minute)):
		}
	}
	s.damaged.Store(damaged)
}

// CountRuns has the kernel count the runs of its programs until stop is called,
// if it can. It must come before Drop.
func CountRuns() (stop func()) {
	stop, err := loader.CountRuns()
	if err != nil { // Linux before 5.8: the numbers stay 0
		return func() {}
	}
	return stop
}
