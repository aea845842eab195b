package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/sallyport/sallyport/internal/event"
	"github.com/sallyport/sallyport/loader"
)

const (
	answerLimit = 20 * time.Second
	// returnLimit is how long an agent that has ended may stay away before what
	// waits for it is given up.
	returnLimit = 30 * time.Second
	returnEvery = 100 * time.Millisecond
)

// ErrGone: the agent ended and has not come back.
var ErrGone = errors.New("the agent is gone")

// Ask reaches an agent for its status.
func Ask(path string) (*Status, error) {
	l, err := dial(path, func(message) {})
	if err != nil {
		return nil, err
	}
	defer l.close()
	a, err := l.ask(request{Status: &struct{}{}})
	if err != nil {
		return nil, err
	}
	if a.Status == nil {
		return nil, errSilent
	}
	return a.Status, nil
}

// Contact is a connection to an agent on which a sandbox can be registered.
type Contact struct {
	path   string
	conn   *net.UnixConn
	link   *link // once ready, if err is nil
	status *Status
	err    error
	ready  chan struct{}
}

// Reach connects to an agent and has it get ready for a registration. It does not
// wait for an answer: Status does.
func Reach(path string) (*Contact, error) {
	conn, err := connect(path)
	if err != nil {
		return nil, err
	}
	c := &Contact{path: path, conn: conn, ready: make(chan struct{})}
	go func() {
		defer close(c.ready)
		c.status, c.err = c.greet()
	}()
	return c, nil
}

func (c *Contact) greet() (*Status, error) {
	l, err := greeted(c.conn, func(message) {})
	if err != nil {
		return nil, err
	}
	c.link = l
	a, err := l.ask(request{Prepare: &struct{}{}})
	if err == nil && a.Status == nil {
		err = errSilent
	}
	return a.Status, err
}

// Status is what the agent says of itself.
func (c *Contact) Status() (*Status, error) {
	<-c.ready
	return c.status, c.err
}

// Close ends the connection, unless a sandbox has it.
func (c *Contact) Close() {
	c.conn.Close() // ends the reading of the greeting, too
	if <-c.ready; c.link != nil {
		c.link.close()
	}
}

var errSilent = errors.New("ask agent: it said nothing of itself")

// Handler takes what the agent says of a sandbox by itself. Its fields are called
// from one goroutine and may be nil.
type Handler struct {
	// Event is one that the kernel saw, with the call that failed; it is in the log.
	Event func(e event.Event, call string)
	// Back says that the agent was away and is there again.
	Back func(away time.Duration)
}

// Sandbox is a run's registration with an agent. An agent that ends is waited
// for: what the run reports meanwhile is kept, in order.
type Sandbox struct {
	ID           string
	PolicySHA256 string
	Tier         event.Tier

	path    string
	handler Handler
	mu      sync.Mutex
	link    *link         // nil: away
	back    chan struct{} // closed when link is there again
	since   time.Time     // away since
	number  uint64        // of the last report
	sent    uint64        // of the last that was sent on this connection
	kept    []report      // not known to be written
	written uint64
	dropped uint64     // reports that were too many to keep
	changed *sync.Cond // any of these
	closed  bool
	gone    chan struct{}
}

// Gone is closed when an agent is there that does not know the sandbox: it is
// one no more.
func (s *Sandbox) Gone() <-chan struct{} { return s.gone }

// keptMax bounds what is kept for an agent that is away.
const keptMax = 50_000

// Register makes a sandbox, which has the connection from now on.
func (c *Contact) Register(r Registration, h Handler) (*Sandbox, error) {
	if _, err := c.Status(); err != nil {
		return nil, err
	}
	s := &Sandbox{path: c.path, handler: h, gone: make(chan struct{})}
	s.changed = sync.NewCond(&s.mu)
	l := c.link
	l.mu.Lock()
	l.unasked = s.unasked
	l.mu.Unlock()
	a, err := l.ask(request{Register: &r})
	if err == nil && a.Sandbox == nil {
		err = errors.New("register with agent: no answer to the point")
	}
	if err != nil {
		l.close()
		return nil, err
	}
	s.ID, s.PolicySHA256, s.Tier = a.Sandbox.ID, a.Sandbox.PolicySHA256, a.Sandbox.Tier
	s.use(l)
	return s, nil
}

// use takes a connection, and sees to its end.
func (s *Sandbox) use(l *link) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.link = l
	if s.back != nil {
		close(s.back)
		s.back = nil
	}
	s.sent = s.written
	go s.sendReports(l)
	go func() {
		<-l.ended
		s.mu.Lock()
		closed := s.closed
		if s.link == l {
			s.link, s.back, s.since = nil, make(chan struct{}), time.Now()
		}
		s.changed.Broadcast()
		s.mu.Unlock()
		if !closed {
			s.comeBack()
		}
	}()
}

// comeBack looks for the agent until it is there, or the sandbox is closed.
func (s *Sandbox) comeBack() {
	for {
		time.Sleep(returnEvery)
		s.mu.Lock()
		closed := s.closed
		s.mu.Unlock()
		if closed {
			return
		}
		l, refused := s.reattach()
		if refused {
			s.mu.Lock()
			close(s.gone)
			s.mu.Unlock()
			return
		}
		if l != nil {
			s.mu.Lock()
			away := time.Since(s.since)
			s.mu.Unlock()
			s.use(l)
			if s.handler.Back != nil {
				s.handler.Back(away)
			}
			return
		}
	}
}

// sendReports sends what was reported, as long as the connection is the one.
func (s *Sandbox) sendReports(l *link) {
	for {
		s.mu.Lock()
		for s.link == l && s.sent == s.number {
			s.changed.Wait()
		}
		if s.link != l {
			s.mu.Unlock()
			return
		}
		i := int(s.sent - s.written) // what is written is not kept
		batch := append([]report(nil), s.kept[i:]...)
		s.sent = s.number
		s.mu.Unlock()
		for i := range batch {
			if l.post(request{Report: &batch[i]}, nil) != nil {
				l.close() // they are kept
				return
			}
		}
	}
}

// reattach takes the sandbox over, on a new connection.
func (s *Sandbox) reattach() (l *link, refused bool) {
	l, err := dial(s.path, s.unasked)
	if err != nil {
		return nil, false
	}
	a, err := l.ask(request{Attach: &attach{s.ID}})
	if err != nil || a.Sandbox == nil {
		l.close()
		var r *Refusal
		return nil, errors.As(err, &r) && r.Hint != hintAgain
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.wrote(a.Written)
	return l, false
}

// wrote forgets what is in the log. Called under mu.
func (s *Sandbox) wrote(n uint64) {
	if n <= s.written {
		return
	}
	s.written = n
	for len(s.kept) > 0 && s.kept[0].Number <= n {
		s.kept = s.kept[1:]
	}
	s.changed.Broadcast()
}

// unasked takes answers to reports, too: nobody waits for them one by one.
func (s *Sandbox) unasked(m message) {
	switch {
	case m.Event != nil && s.handler.Event != nil:
		s.handler.Event(*m.Event, m.Call)
	case m.Written > 0:
		s.mu.Lock()
		s.wrote(m.Written)
		s.mu.Unlock()
	}
}

// current gives the connection; away, it waits a little.
func (s *Sandbox) current(ctx context.Context) (*link, error) {
	for {
		s.mu.Lock()
		l, back := s.link, s.back
		s.mu.Unlock()
		if l != nil {
			return l, nil
		}
		select {
		case <-back:
		case <-s.gone:
			return nil, ErrGone
		case <-ctx.Done():
			return nil, ErrGone
		}
	}
}

// Start begins to record what the payload is refused.
func (s *Sandbox) Start() error {
	ctx, cancel := context.WithTimeout(context.Background(), answerLimit)
	defer cancel()
	l, err := s.current(ctx)
	if err != nil {
		return err
	}
	_, err = l.ask(request{Start: &struct{}{}})
	return err
}

// Update replaces the policy. It gives the SHA-256 of the one that holds now.
func (s *Sandbox) Update(u Update) (sha string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), answerLimit)
	defer cancel()
	l, err := s.current(ctx)
	if err != nil {
		return "", err
	}
	a, err := l.ask(request{Update: &u})
	if err != nil {
		return "", err
	}
	if a.Sandbox == nil {
		return "", errors.New("update policy: the agent's answer is not to the point")
	}
	return a.Sandbox.PolicySHA256, nil
}

// ProcessOf finds the process behind a connection; nil where it is not known.
func (s *Sandbox) ProcessOf(c loader.Connection) (*event.Process, []event.Process) {
	return s.who(request{ProcessOf: &c})
}

// Process says who a process of the sandbox is.
func (s *Sandbox) Process(pid int) (*event.Process, []event.Process) {
	return s.who(request{Process: pid})
}

func (s *Sandbox) who(r request) (*event.Process, []event.Process) {
	s.mu.Lock()
	left := time.Second
	if s.link == nil {
		left -= time.Since(s.since) // one that stays away holds nobody up
	}
	s.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), max(left, 0))
	defer cancel()
	l, err := s.current(ctx)
	if err != nil {
		return nil, nil
	}
	a, err := l.ask(r)
	if err != nil || a.Processes == nil {
		return nil, nil
	}
	return a.Processes.Process, a.Processes.Ancestors
}

// Append reports an event that this process saw: audit.Appender. It does not
// wait for it to be written: see Settle.
func (s *Sandbox) Append(e event.Event) error { return s.report(report{Event: e}) }

// Lost reports attempts of which there is no record.
func (s *Sandbox) Lost(n uint64) error { return s.report(report{Lost: n}) }

func (s *Sandbox) report(r report) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.kept) >= keptMax {
		s.dropped++
		return fmt.Errorf("report to agent: %d events wait for it", len(s.kept))
	}
	s.number++
	r.Number = s.number
	s.kept = append(s.kept, r)
	s.changed.Broadcast()
	return nil
}

// Traffic reports what the proxy has counted since the last time, its open
// connections as they are. It reports whether that was sent: what was not belongs
// to the next time.
func (s *Sandbox) Traffic(t event.Traffic) bool {
	s.mu.Lock()
	l := s.link
	s.mu.Unlock()
	return l != nil && l.post(request{Traffic: &t}, nil) == nil
}

// Dropped is how many reports were too many to keep.
func (s *Sandbox) Dropped() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.dropped
}

// Settle waits until all that was reported is in the log, or limit is over. It
// gives back what is not.
func (s *Sandbox) Settle(limit time.Duration) []event.Event {
	over := false
	defer time.AfterFunc(limit, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		over = true
		s.changed.Broadcast()
	}).Stop()
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.kept) > 0 && !over {
		s.changed.Wait()
	}
	var left []event.Event
	for _, r := range s.kept {
		left = append(left, r.Event)
	}
	return left
}

// End ends the sandbox. All that the kernel saw was handed to Handler.Event when
// it returns.
func (s *Sandbox) End() (Ended, error) {
	ctx, cancel := context.WithTimeout(context.Background(), returnLimit)
	defer cancel()
	l, err := s.current(ctx)
	if err != nil {
		return Ended{}, err
	}
	a, err := l.ask(request{End: &struct{}{}})
	if err != nil {
		return Ended{}, err
	}
	if a.Ended == nil {
		return Ended{}, errors.New("end sandbox: no answer to the point")
	}
	return *a.Ended, nil
}

// Close lets go of the agent, which ends the sandbox if End did not.
func (s *Sandbox) Close() {
	s.mu.Lock()
	s.closed = true
	l := s.link
	s.mu.Unlock()
	if l != nil {
		l.close()
	}
}
