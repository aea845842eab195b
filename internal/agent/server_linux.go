package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sallyport/sallyport/internal/audit"
	"github.com/sallyport/sallyport/internal/ceiling"
	"github.com/sallyport/sallyport/internal/cgroup"
	"github.com/sallyport/sallyport/internal/event"
	"github.com/sallyport/sallyport/internal/policy"
	"github.com/sallyport/sallyport/internal/process"
	"github.com/sallyport/sallyport/loader"
)

// Options of a server. The zero value is the machine's own agent.
type Options struct {
	StateDir string
	// Ceiling is the folder of the administrator's policies.
	Ceiling string
	Version string
	Limits  Limits
	// Recorder is wanted of those that there are; empty: RecorderAuto.
	Recorder Recorder
	// Sift makes a sandbox's Sifter; nil: everything is recorded as it comes.
	Sift func() Sifter
	// Warn takes what an administrator should know.
	Warn func(string)
}

// Server is the daemon.
type Server struct {
	opts      Options
	place     places
	load      *loader.Loader
	check     process.Checker
	quotas    *quotas
	logs      *logbook
	policies  policies
	tier      event.Tier
	less      string // why it is not a higher one
	otherwise string // why another recorder than is wanted records

	draining atomic.Bool
	refused  atomic.Uint64 // requests
	owed     *owed
	lost     atomic.Uint64 // denials of which there is no record, of the machine
	damaged  atomic.Uint64 // logs
	ceiling  atomic.Pointer[[]policy.Source]

	mu     sync.Mutex
	boxes  map[string]*box
	groups map[uint64]*box // by cgroup
	conns  map[*conn]bool
	// traffic is of all sandboxes there were; what is open now is each one's.
	traffic event.Traffic
	maps    map[string]event.Map // as counted last
	wait    sync.WaitGroup       // connections and watchers
	reader  sync.WaitGroup
	unread  context.CancelFunc
	ticker  *time.Ticker
}

// New loads the programs, or takes over what a predecessor left, sandboxes
// included. It needs root.
func New(o Options) (*Server, error) {
	if o.StateDir == "" {
		o.StateDir = DefaultStateDir
	}
	if o.Sift == nil {
		o.Sift = func() Sifter { return plain{} }
	}
	if o.Warn == nil {
		o.Warn = func(string) {}
	}
	s := &Server{opts: o, quotas: newQuotas(o.Limits), boxes: map[string]*box{},
		groups: map[uint64]*box{}, conns: map[*conn]bool{}}
	if err := s.open(); err != nil {
		_ = s.Close() // whatever there is of it
		return nil, fmt.Errorf("start agent: %w", err)
	}
	return s, nil
}

func (s *Server) open() (err error) {
	if s.check.Own, err = process.HostNamespaces(); err != nil {
		return err
	}
	if s.place, err = findPlaces(s.opts.StateDir); err != nil {
		return err
	}
	s.check.Parent = s.place.cgroupPath
	if err := s.Reload(); err != nil {
		return err
	}
	if err := s.selfTest(); err != nil {
		return err
	}
	journals, err := s.place.readJournals()
	if err != nil {
		return err
	}
	if s.load, err = s.loadOrReplace(len(journals)); err != nil {
		return err
	}
	s.checkTier()
	if err := s.checkRecorder(); err != nil {
		return err
	}
	host, _ := os.Hostname() // an event without it is still an event
	head := audit.Header{Sandbox: event.Sandbox{Tier: s.tier}, Host: host, BootID: s.place.boot}
	if s.logs, err = openLogbook(s.place.logs, head, s.quotas.limits.LogBytes); err != nil {
		return err
	}
	for _, j := range journals {
		if err := s.adopt(j); err != nil {
			s.warn(fmt.Sprintf("sandbox %s was not taken over: %v", j.ID, err))
		}
	}
	if s.owed, err = openOwed(filepath.Join(s.place.state, "owed")); err != nil {
		return err
	}
	s.logs.owe = func(n int64) { s.owed.add(n) }
	if n := s.owed.add(0); n > 0 {
		s.Lost(event.OpUnknown, n)
		s.owed.add(-int64(n))
	}
	s.startReading()
	return s.sweep()
}

// selfTest finds the tier, and fails if there is none. It is made
// apart from the sandboxes: programs that are pinned there refuse what is none.
func (s *Server) selfTest() error {
	mount, err := cgroup.Mount()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	findings, err := loader.SelfTest(ctx, mount)
	if err != nil {
		return err
	}
	tier, why := loader.Tier(findings)
	if tier < event.TierTrace {
		return fmt.Errorf("tier %s: %w", event.TierTrace, why)
	}
	s.tier = tier
	if why != nil {
		s.less = why.Error()
	}
	return nil
}

// checkTier: what the self-test could load, the sandboxes' own programs may lack.
func (s *Server) checkTier() {
	if err := s.load.HasLSM(); err != nil && s.tier > event.TierTrace {
		s.tier, s.less = event.TierTrace, err.Error()
	}
}

// checkRecorder: what is wanted may be impossible, and sandboxes that are there keep
// theirs.
func (s *Server) checkRecorder() error {
	by, why := s.load.Recorder()
	switch {
	case why == nil:
		return nil
	case s.opts.Recorder == RecorderFexit && !errors.Is(why, loader.ErrKept):
		return fmt.Errorf("record by %s: %w", RecorderFexit, why)
	}
	s.otherwise = why.Error()
	s.warn(fmt.Sprintf("refused system calls are recorded by %s: %v", by, why))
	return nil
}

var fexitFor = map[Recorder]loader.Fexit{"": loader.FexitSafe, RecorderAuto: loader.FexitSafe, RecorderFexit: loader.FexitAlways}

// loadOrReplace gives up pins that are of no use, if no sandbox depends on them.
func (s *Server) loadOrReplace(sandboxes int) (*loader.Loader, error) {
	o := loader.Options{Cgroup: s.place.cgroup, Pin: s.place.pins, Fexit: fexitFor[s.opts.Recorder], Supervised: true}
	l, err := loader.Load(o)
	var pins *loader.PinError
	if !errors.As(err, &pins) {
		return l, err
	}
	if sandboxes > 0 {
		return nil, fmt.Errorf("%w; %d sandboxes depend on them ('sallyport agent --remove' ends these)", err, sandboxes)
	}
	s.warn(err.Error() + ": they are removed, no sandbox depends on them")
	if err := os.RemoveAll(s.place.pins); err != nil {
		return nil, fmt.Errorf("remove pins: %w", err)
	}
	return loader.Load(o)
}

func (s *Server) startReading() {
	ctx, cancel := context.WithCancel(context.Background())
	s.unread = cancel
	var ended atomic.Bool
	s.reader.Go(func() {
		defer ended.Store(true)
		if err := s.load.Read(ctx, s); err != nil {
			s.warn("what the kernel records is not read any more: " + err.Error())
		}
	})
	for !s.load.Reading() && !ended.Load() { // what is removed before is not read to its end
		time.Sleep(time.Millisecond)
	}
	s.reader.Go(func() { s.inspect(ctx) })
	s.ticker = time.NewTicker(time.Second)
	s.reader.Go(func() {
		for {
			select {
			case now := <-s.ticker.C:
				s.tick(now)
			case <-ctx.Done():
				return
			}
		}
	})
}

// Serve answers on a listener until it is closed.
func (s *Server) Serve(l *net.UnixListener) error {
	for {
		c, err := l.AcceptUnix()
		switch {
		case errors.Is(err, net.ErrClosed):
			return nil
		case err != nil: // out of descriptors: it passes
			s.warn("accept a connection: " + err.Error())
			time.Sleep(100 * time.Millisecond)
			continue
		}
		s.wait.Go(func() { s.serve(c) })
	}
}

// enter takes a connection in, unless the server ends.
func (s *Server) enter(k *conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.draining.Load() {
		return false
	}
	s.conns[k] = true
	return true
}

// leave ends the sandbox of a connection, unless it is the server that ends.
func (s *Server) leave(k *conn) {
	s.mu.Lock()
	delete(s.conns, k)
	b := k.box.Load()
	draining := s.draining.Load()
	if b != nil && b.conn == k {
		b.conn = nil
	} else {
		b = nil
	}
	s.mu.Unlock()
	if b != nil && !draining {
		if err := s.end(b); err != nil {
			s.warn(err.Error())
		}
	}
}

// Reload reads the administrator's policies again, for the sandboxes to come,
// and begins new log files. What cannot be read changes nothing.
func (s *Server) Reload() error {
	sources, err := ceiling.Read(s.opts.Ceiling)
	if err != nil {
		return err
	}
	for _, src := range sources {
		if _, err := policy.Parse(src); err != nil {
			return fmt.Errorf("read administrator's policies: %w", err)
		}
	}
	s.ceiling.Store(&sources)
	if s.logs == nil {
		return nil
	}
	return s.logs.rotate()
}

// Close ends the server, not the sandboxes: requests in hand are answered, what
// has happened is recorded, programs and cgroups stay.
func (s *Server) Close() error {
	s.mu.Lock()
	s.draining.Store(true)
	for k := range s.conns {
		_ = k.c.SetReadDeadline(time.Now())
	}
	for _, b := range s.boxes {
		b.unwatch()
	}
	s.mu.Unlock()
	s.wait.Wait()
	if s.unread != nil {
		s.ticker.Stop()
		s.unread()
		s.reader.Wait()
	}
	for _, b := range s.boxes {
		s.release(b, b.sifter.Flush)
	}
	var errs []error
	if s.load != nil {
		errs = append(errs, s.load.Close())
	}
	if s.logs != nil {
		errs = append(errs, s.logs.close())
	}
	errs = append(errs, s.owed.close())
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("stop agent: %w", err)
	}
	return nil
}

// Remove ends what an agent left behind: its sandboxes, programs and cgroups.
// The logs stay. No agent may be running.
func Remove(stateDir string) error {
	p, err := findPlaces(stateDir)
	if err != nil {
		return err
	}
	if err := p.clear(); err != nil {
		return fmt.Errorf("remove what the agent left: %w", err)
	}
	return p.unmount()
}

// warn tells the administrator; text from outside is made printable.
func (s *Server) warn(text string) {
	lines := strings.Split(text, "\n")
	for i, l := range lines {
		lines[i] = event.Text(l).Printable()
	}
	s.opts.Warn(strings.Join(lines, "\n"))
}
