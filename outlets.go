package sallyport

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/sallyport/sallyport/internal/audit"
	"github.com/sallyport/sallyport/internal/event"
	"github.com/sallyport/sallyport/internal/export"
	"github.com/sallyport/sallyport/internal/policy"
	"github.com/sallyport/sallyport/metrics"
)

const (
	// countEvery is how old the numbers of a run become at most.
	countEvery = 5 * time.Second
	// drainLimit is how long the end of a run waits for its last events to be
	// exported; what is left the next run sends.
	drainLimit = 2 * time.Second
)

// outlets carry a run's record on, and its numbers: to node_exporter's textfile
// collector, to a store of events, or, the numbers alone, to the machine's agent.
// Nothing that a sandbox does waits for them.
type outlets struct {
	rules   policy.AuditRules
	logs    string
	version string
	tier    event.Tier
	warn    func(message, hint string)
	// report tells the agent; nil: there is none.
	report func(event.Traffic) bool

	read    func() event.Traffic // the proxy's; nil: there was none
	told    event.Traffic        // of it
	extra   event.Traffic        // starts
	up      bool
	stop    chan struct{} // closed to end counting
	last    chan struct{} // closed when nothing more is written to the log
	counted sync.WaitGroup
	sent    sync.WaitGroup
	cancel  context.CancelFunc
}

// newOutlets begins to export. With an agent the policy's targets are the
// agent's business.
func newOutlets(o *outlets) *outlets {
	o.stop, o.last = make(chan struct{}), make(chan struct{})
	ctx, cancel := context.WithCancel(context.Background())
	o.cancel = cancel
	if o.report != nil {
		if o.rules != (policy.AuditRules{}) {
			o.warn("the agent keeps the record: audit.log, otlp, syslog and textfile of the policy have no effect", "see 'sallyport agent --help'")
		}
		return o
	}
	if url := o.rules.OTLP; url != "" {
		o.export(ctx, "otlp", func() (export.Sender, error) { return export.NewOTLP(url, o.version) })
	}
	if url := o.rules.Syslog; url != "" {
		o.export(ctx, "syslog", func() (export.Sender, error) { return export.NewSyslog(url) })
	}
	return o
}

func (o *outlets) export(ctx context.Context, to string, open func() (export.Sender, error)) {
	s, err := open()
	if err != nil {
		o.warn(err.Error(), "")
		return
	}
	x := export.New(export.Options{Dir: o.logs, State: filepath.Join(o.logs, ".export-"+to+".json"), Sender: s,
		Warn: func(text string) { o.warn(text, "") }})
	o.sent.Go(func() { x.Run(ctx, o.last) })
}

// begin counts what a proxy counts: the command has been started.
func (o *outlets) begin(took time.Duration, read func() event.Traffic) {
	o.up, o.read = true, read
	o.extra.Starts = map[event.Start]uint64{event.Started: 1}
	o.extra.StartTimes.Observe(took)
	if o.report == nil && o.rules.Textfile == "" {
		return
	}
	o.counted.Go(func() {
		tick := time.NewTicker(countEvery)
		defer tick.Stop()
		for {
			select {
			case <-o.stop:
				return
			case <-tick.C:
				o.count()
			}
		}
	})
}

// count reports what is new.
func (o *outlets) count() {
	var now event.Traffic
	if o.read != nil {
		now = o.read()
	}
	delta := now.Since(o.told)
	if o.report != nil {
		delta.Open = now.Open
		if !o.report(delta) {
			return
		}
	} else if o.rules.Textfile != "" {
		delta.Add(o.extra)
		if err := o.textfile(delta); err != nil {
			o.warn(err.Error(), "")
			o.rules.Textfile = "" // it would fail again and again
			return
		}
		o.extra = event.Traffic{}
	}
	o.told = now
}

// textfile adds up all logs of the user, those of runs that were killed too, and
// what this run's proxy has counted.
func (o *outlets) textfile(delta event.Traffic) error {
	path := filepath.Join(o.logs, ".metrics.json")
	unlock, _, err := audit.LockState(path, true)
	if err != nil {
		return fmt.Errorf("write metrics: %w", err)
	}
	defer unlock()
	l, err := audit.LoadLedger(path)
	if err != nil {
		o.warn(err.Error()+": the numbers are added up anew", "")
		l = &audit.Ledger{}
	}
	if err := l.Update(o.logs); err != nil {
		return err
	}
	l.Traffic.Add(delta)
	if l.Live == 0 {
		l.Traffic.Open = 0 // of runs that were killed
	}
	if err := l.Save(path); err != nil {
		return err
	}
	name := filepath.Join(o.rules.Textfile, fmt.Sprintf("sallyport-%d.prom", os.Getuid()))
	return metrics.WriteTextfile(name, os.Getuid(), ledgerFigures{o, l})
}

// ledgerFigures are a user's, as the metrics have them.
type ledgerFigures struct {
	o *outlets
	l *audit.Ledger
}

func (f ledgerFigures) Figures() event.Figures {
	return event.Figures{Version: f.o.version, Tier: f.o.tier, Counts: f.l.Counts, Traffic: f.l.Traffic, Sandboxes: f.l.Live,
		LogBytes: f.l.Position.Bytes()}
}

// flush counts for the last time: the proxy has ended. With an agent it must come
// before the end of the sandbox.
func (o *outlets) flush() {
	if o == nil || closed(o.stop) {
		return
	}
	close(o.stop)
	o.counted.Wait()
	if o.report != nil {
		o.count()
	}
}

// close sends what is left, when the log is whole.
func (o *outlets) close() {
	if o == nil || closed(o.last) {
		return
	}
	o.flush()
	if o.report == nil && o.rules.Textfile != "" {
		if !o.up {
			o.extra.Starts = map[event.Start]uint64{event.StartFailed: 1}
		}
		o.count()
	}
	close(o.last)
	defer time.AfterFunc(drainLimit, o.cancel).Stop()
	o.sent.Wait()
	o.cancel()
}

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// logDir is where a user's runs keep their logs.
func logDir(p *policy.Policy, home string) string {
	if dir := p.Audit().Log; dir != "" {
		return filepath.Clean(dir)
	}
	return audit.Dir(os.Getenv, home)
}
