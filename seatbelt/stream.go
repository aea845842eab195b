package seatbelt

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"
)

// StreamConfig says what a Stream watches for. Exec, Tag, CanaryFile and Emit
// are needed.
type StreamConfig struct {
	Exec Exec
	// Tag is the message of the run's profile.
	Tag string
	// CanaryFile exists, is readable and has its resolved name.
	CanaryFile string
	// Emit takes the run's violations, in the order of the kernel's clock where
	// they arrive within a short time. It must not block: the log does not wait.
	Emit func(Record, Violation, Attribution)
	// Owns reports whether a process belongs to the run, for records that carry
	// no tag. Nil: they are left out, and counted.
	Owns func(pid int) bool

	// Times, with defaults where zero: how long to wait for the log to be ready,
	// for one canary to arrive, for the last one, and for /usr/bin/log to end
	// when told to.
	Ready, Try, Drain, End time.Duration
}

// Attribution says by what a record was found to be the run's.
type Attribution uint8

const (
	ByNothing Attribution = iota
	ByTag
	ByPID
)

func (a Attribution) String() string { return [...]string{"none", "tag", "pid"}[a] }

// StreamStats says how complete the record is.
type StreamStats struct {
	Outcomes     Counts
	Attempts     uint64 // of the run
	Lost         uint64 // entries that the log says it dropped
	Unattributed uint64 // cut or untagged records that may be of the run
	// Incomplete says what may have been missed and why; empty: nothing.
	Incomplete []string
}

// Stream reads the kernel's reports of one run while it goes on.
type Stream struct {
	cfg      StreamConfig
	ready    *canary
	last     *canary
	recent   recent
	order    sequence
	typeLog  bool // with --type log
	process  Process
	finished chan struct{} // closed when the reader of process has ended

	mu       sync.Mutex
	stats    StreamStats
	stopping bool
	gap      time.Time // since when records may be missing; zero: none are
	heard    time.Time // when the log last showed something of the run
}

const (
	defaultReady = 5 * time.Second
	defaultTry   = 200 * time.Millisecond
	defaultDrain = 2 * time.Second
	defaultEnd   = 2 * time.Second
)

// ErrNotReady: the log runs, but shows nothing of what is refused.
var ErrNotReady = errors.New("the log does not show what the kernel refuses")

// StartStream starts /usr/bin/log and returns when a refusal has been seen in
// it, so that none that comes later is missed.
func StartStream(cfg StreamConfig) (*Stream, error) {
	if !validTag(cfg.Tag) {
		return nil, fmt.Errorf("start log stream: bad tag %q", cfg.Tag)
	}
	cfg.Ready, cfg.Try = orDefault(cfg.Ready, defaultReady), orDefault(cfg.Try, defaultTry)
	cfg.Drain, cfg.End = orDefault(cfg.Drain, defaultDrain), orDefault(cfg.End, defaultEnd)
	s := &Stream{cfg: cfg, recent: newRecent(), order: sequence{emit: cfg.Emit},
		ready: newCanary(cfg.Exec, cfg.Tag+"-ready", cfg.CanaryFile),
		last:  newCanary(cfg.Exec, cfg.Tag+"-last", cfg.CanaryFile)}
	// Some releases show kernel messages only where the type is named.
	for _, s.typeLog = range []bool{false, true} {
		err := s.open()
		if err == nil {
			err = s.awaitReady()
		}
		if err == nil {
			go s.watch()
			return s, nil
		}
		s.end()
		if !errors.Is(err, ErrNotReady) {
			return nil, fmt.Errorf("start log stream: %w", err)
		}
	}
	return nil, fmt.Errorf("start log stream: %w", &Error{Err: ErrNotReady,
		Hint: "run 'sallyport doctor'; without the log, what is refused is refused but not recorded"})
}

func orDefault(d, def time.Duration) time.Duration {
	if d <= 0 {
		return def
	}
	return d
}

// PID is that of the program that shows the log, 0 where there is none.
func (s *Stream) PID() int {
	if s == nil {
		return 0
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.process.PID()
}

// predicate finds the run's records, and those that may be: cut ones, and hard
// refusals of the kernel, which carry no message.
func predicate(tag string) string {
	return `processID == 0 AND (eventMessage CONTAINS "` + tag + `" OR (eventMessage CONTAINS "Sandbox: " AND ` +
		`(eventMessage ENDSWITH "‹…>" OR eventMessage CONTAINS ") forbidden-")))`
}

// streamArgs are the arguments of /usr/bin/log.
func streamArgs(tag string, typeLog bool) []string {
	args := []string{"stream", "--style", "ndjson", "--level", "debug"}
	if typeLog {
		args = append(args, "--type", "log")
	}
	return append(args, "--predicate", predicate(tag))
}

// open starts the program and a goroutine that reads it to its end.
func (s *Stream) open() error {
	p, err := s.cfg.Exec.Start(Command{Path: logProgram, Args: streamArgs(s.cfg.Tag, s.typeLog), Env: plainEnv})
	if err != nil {
		return fmt.Errorf("start %s: %w", logProgram, err)
	}
	s.process, s.finished = p, make(chan struct{})
	go func(done chan struct{}) {
		defer close(done)
		s.read(NewScanner(p.Output()))
	}(s.finished)
	return nil
}

// read takes records until the output ends.
func (s *Stream) read(scan *Scanner) {
	for {
		r, err := scan.Next()
		if err != nil {
			break
		}
		s.take(r)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for o, n := range scan.Counts() {
		s.stats.Outcomes[o] += n
	}
}

// take judges one record. Live, the kernel alone is believed.
func (s *Stream) take(r Record) {
	if r.Lost > 0 {
		s.mu.Lock()
		s.stats.Lost += r.Lost
		s.mu.Unlock()
		s.incomplete("the log dropped entries")
		return
	}
	v, o := ParseViolation(r.Text)
	by := ByNothing
	switch {
	case r.Reporter != Kernel:
		o = OtherProcess
	case o != Kept:
	case s.ready.arrived(v.Message), s.last.arrived(v.Message):
		s.hear()
		return
	case strings.HasSuffix(r.Text, "\n"+s.cfg.Tag):
		by = ByTag
	case !v.Cut && !strings.HasPrefix(v.Op, "forbidden-"):
		o = OtherTag
	case s.cfg.Owns != nil && s.cfg.Owns(v.PID):
		by = ByPID
	}
	if o == Kept && !s.recent.add(r) {
		return // shown a second time
	}
	if by == ByTag {
		s.hear()
	}
	s.mu.Lock()
	s.stats.Outcomes[o]++
	switch {
	case o == Kept && by == ByNothing:
		s.stats.Unattributed += v.Count
	case o == Kept:
		s.stats.Attempts += v.Count
	}
	s.mu.Unlock()
	if by != ByNothing {
		s.order.add(r, v, by, time.Now())
	}
}

func (s *Stream) hear() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.heard = time.Now()
}

// awaitReady provokes refusals until one has arrived.
func (s *Stream) awaitReady() error {
	deadline := time.Now().Add(s.cfg.Ready)
	var failed error
	for time.Now().Before(deadline) {
		if err := s.ready.provoke(time.Until(deadline)); err != nil {
			failed = err
		}
		select {
		case <-s.ready.seen:
			return nil
		case <-s.finished:
			return s.ended()
		case <-time.After(s.cfg.Try):
		}
	}
	if failed != nil {
		return fmt.Errorf("%w (the canary: %w)", ErrNotReady, failed)
	}
	return ErrNotReady
}

// ended says why the program has ended by itself.
func (s *Stream) ended() error {
	code, err := s.process.Wait()
	if err != nil {
		return err
	}
	return logError(code, s.process.Errors())
}

// logError gives what the log program said a hint. 64 is EX_USAGE (sysexits.h).
func logError(code int, said string) error {
	said = strings.TrimSpace(said)
	err := fmt.Errorf("%s exited with %d: %s", logProgram, code, said)
	low := strings.ToLower(said)
	switch {
	case strings.Contains(low, "admin"):
		return &Error{Err: fmt.Errorf("%w: %w", ErrNotAdmin, err),
			Hint: "log in as an administrator; without the log, what is refused is refused but not recorded"}
	case code == 64 && strings.Contains(low, "sandbox"):
		return &Error{Err: fmt.Errorf("%w: %w", ErrInSandbox, err), Hint: "run sallyport outside of any other sandbox"}
	}
	return err
}

var (
	// ErrNotAdmin: only administrators may read the log as it grows.
	ErrNotAdmin = errors.New("the user may not read the log")
	// ErrInSandbox: neither the log nor a second sandbox works inside one.
	ErrInSandbox = errors.New("already inside a sandbox")
)

func (s *Stream) incomplete(why string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, known := range s.stats.Incomplete {
		if known == why {
			return
		}
	}
	s.stats.Incomplete = append(s.stats.Incomplete, why)
}
