// Package outlets carries the record of one run on: its events to a collector or
// a syslog server, its numbers to node_exporter's textfile collector. It is at
// work in a program of its own, beside the run: nothing that a sandbox does waits
// for it.
package outlets

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/sallyport/sallyport/internal/audit"
	"github.com/sallyport/sallyport/internal/event"
	"github.com/sallyport/sallyport/internal/export"
	"github.com/sallyport/sallyport/internal/otlp"
	"github.com/sallyport/sallyport/metrics"
)

// drainLimit is how long the end of a run waits for its last events to be
// exported; what is left the next run sends.
const drainLimit = 2 * time.Second

// lockLimit is how long one run waits for another that writes the numbers.
var lockLimit = 2 * time.Second

// Serve does the export.Job that in begins with, until in ends. It writes
// export.Warnings to out.
func Serve(in io.Reader, out io.Writer) error {
	dec := json.NewDecoder(in)
	s := &server{out: json.NewEncoder(out)}
	if err := dec.Decode(&s.job); err != nil {
		return fmt.Errorf("read what to carry on: %w", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	last := make(chan struct{})
	if url := s.job.OTLP; url != "" {
		s.export(ctx, last, "otlp", func() (export.Sender, error) { return otlp.New(url, s.job.Version) })
	}
	if url := s.job.Syslog; url != "" {
		s.export(ctx, last, "syslog", func() (export.Sender, error) { return export.NewSyslog(url) })
	}
	err := s.count(dec)
	close(last)
	defer time.AfterFunc(drainLimit, cancel).Stop()
	s.sent.Wait()
	return err
}

type server struct {
	job     export.Job
	pending event.Traffic // not in the file yet
	sent    sync.WaitGroup

	mu  sync.Mutex
	out *json.Encoder
}

func (s *server) warn(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_ = s.out.Encode(export.Warning{Text: text}) // the run has been killed: nobody to tell
}

func (s *server) export(ctx context.Context, last <-chan struct{}, to string, open func() (export.Sender, error)) {
	sender, err := open()
	if err != nil {
		s.warn(err.Error())
		return
	}
	x := export.New(export.Options{Dir: s.job.Logs, State: filepath.Join(s.job.Logs, ".export-"+to+".json"), Sender: sender, Warn: s.warn})
	s.sent.Go(func() { x.Run(ctx, last) })
}

// count takes what a run reports, until it ends.
func (s *server) count(dec *json.Decoder) error {
	failed := false
	for {
		var delta event.Traffic
		err := dec.Decode(&delta)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read what a run reports: %w", err)
		}
		if s.job.Textfile == "" || failed {
			continue
		}
		s.pending.Add(delta)
		err = s.textfile()
		if errors.Is(err, errBusy) {
			continue // the next time it is more
		}
		if err != nil {
			s.warn(err.Error())
			failed = true // it would fail again and again
			continue
		}
		s.pending = event.Traffic{}
	}
}

// textfile adds up all logs of the user, those of runs that were killed too, and
// what this run's proxy has counted.
func (s *server) textfile() error {
	path := filepath.Join(s.job.Logs, ".metrics.json")
	unlock, err := lockFor(path, lockLimit)
	if err != nil {
		return fmt.Errorf("write metrics: %w", err)
	}
	defer unlock()
	l, err := audit.LoadLedger(path)
	if err != nil {
		s.warn(err.Error() + ": the numbers are added up anew")
		l = &audit.Ledger{}
	}
	if err := l.Update(s.job.Logs); err != nil {
		return err
	}
	l.Traffic.Add(s.pending)
	if l.Live == 0 {
		l.Traffic.Open = 0 // of runs that were killed
	}
	if err := l.Save(path); err != nil {
		return err
	}
	name := filepath.Join(s.job.Textfile, fmt.Sprintf("sallyport-%d.prom", os.Getuid()))
	return metrics.WriteTextfile(name, os.Getuid(), ledgerFigures{&s.job, l})
}

var errBusy = errors.New("another run has the numbers")

// lockFor waits for a lock, but not for ever: who has it may have been stopped.
func lockFor(path string, limit time.Duration) (unlock func(), err error) {
	for end := time.Now().Add(limit); ; time.Sleep(10 * time.Millisecond) {
		unlock, ok, err := audit.LockState(path)
		if err != nil || ok {
			return unlock, err
		}
		if time.Now().After(end) {
			return nil, errBusy
		}
	}
}

// ledgerFigures are a user's, as the metrics have them.
type ledgerFigures struct {
	job *export.Job
	l   *audit.Ledger
}

func (f ledgerFigures) Figures() event.Figures {
	return event.Figures{Version: f.job.Version, Tier: f.job.Tier, Counts: f.l.Counts, Traffic: f.l.Traffic, Sandboxes: f.l.Live,
		LogBytes: f.l.Position.Bytes()}
}
