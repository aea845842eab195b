package vm

import (
	"sync"
	"time"

	"github.com/sallyport/sallyport/testvm/internal/report"
)

// watchdog kills a machine from which what should come next does not come.
type watchdog struct {
	job   report.Job
	kill  func()
	timer *time.Timer

	mu      sync.Mutex
	awaited string
	stalled string
}

func newWatchdog(job report.Job, kill func()) *watchdog {
	w := &watchdog{job: job, kill: kill, awaited: "the job to begin"}
	w.timer = time.AfterFunc(bootTime, w.fire)
	return w
}

func (w *watchdog) fire() {
	w.mu.Lock()
	w.stalled = w.awaited
	w.mu.Unlock()
	w.kill()
}

// saw takes note of a record and sets the time until the next.
func (w *watchdog) saw(rec report.Record) {
	what, patience := next(w.job, rec)
	if what == "" {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.awaited = what
	w.timer.Reset(patience)
}

// next says what has to follow a record, and within which time; empty: output
// promises nothing.
func next(job report.Job, rec report.Record) (what string, patience time.Duration) {
	switch rec.Kind {
	case report.KindBoot, report.KindEnd:
		return "the next step to start", slack
	case report.KindStart:
		return "the end of " + job.Steps[rec.Step].Name, job.Steps[rec.Step].Deadline + slack
	case report.KindDone:
		return "the machine to power off", slack
	}
	return "", 0
}

// stop ends the watch and says what was awaited in vain, if anything was.
func (w *watchdog) stop() string {
	w.timer.Stop()
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.stalled
}
