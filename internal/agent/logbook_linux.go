package agent

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sallyport/sallyport/internal/audit"
	"github.com/sallyport/sallyport/internal/event"
)

// The machine's log is a file for each user, and one of its own for what is
// nobody's: so a user's events are found, handed out and bounded without those
// of the others.
const (
	ownLog  = "machine"
	logSize = 64 << 20 // then a new file
)

func userLog(uid uint32) string { return fmt.Sprintf("u%d", uid) }

// logbook holds the logs that are open, and what all lines of all logs add up to.
type logbook struct {
	dir   string
	head  audit.Header
	limit int64 // of one user's files
	// owe changes the count of attempts that are in no log yet, which outlives
	// this process.
	owe func(int64)

	mu     sync.Mutex
	open   map[string]*userFile
	unsaid map[string]map[event.Loss]uint64 // by log: tick says them
	ledger *audit.Ledger
	kept   uint64 // events in the ledger that was saved last
	ticks  int
}

type userFile struct {
	*audit.Writer
	before int64 // bytes of the user's other files
}

// openLogbook adds up what the logs have more than the ledger: what a
// predecessor wrote and could not count any more, being killed.
func openLogbook(dir string, head audit.Header, limit int64) (*logbook, error) {
	l := &logbook{dir: dir, head: head, limit: limit, owe: func(int64) {}, open: map[string]*userFile{},
		unsaid: map[string]map[event.Loss]uint64{}}
	var err error
	if l.ledger, err = audit.LoadLedger(l.ledgerPath()); err != nil { // it can be made again
		l.ledger = &audit.Ledger{}
	}
	return l, l.ledger.Update(dir)
}

func (l *logbook) ledgerPath() string { return filepath.Join(filepath.Dir(l.dir), "ledger.json") }

// keep saves the ledger. All that is in a log was counted.
func (l *logbook) keep() error {
	names, err := l.names("")
	if err != nil {
		return err
	}
	open := map[string]int64{}
	for _, f := range l.open {
		open[filepath.Base(f.Path())] = f.Stats().Bytes
	}
	l.ledger.Position, l.kept = audit.PositionAt(names, open, time.Now()), l.ledger.Counts.Events
	return l.ledger.Save(l.ledgerPath())
}

var errLogFull = errors.New("the log is full")

// file gives the log of a name, opened if it was not.
func (l *logbook) file(name string) (*userFile, error) {
	f := l.open[name]
	if f != nil && f.Stats().Bytes < logSize {
		return f, nil
	}
	head := l.head
	head.Sandbox.ID = name
	w, err := audit.Create(l.dir, head)
	if err != nil {
		return nil, err
	}
	w.Observe(l.ledger.Counts.Add) // under l.mu, as every call of a Writer is
	next := &userFile{Writer: w}
	if f != nil {
		next.before = f.before + f.Stats().Bytes
		err = f.Close()
	} else {
		next.before, err = l.size(name)
	}
	l.open[name] = next
	return next, err
}

// names lists the files of one log, or of all, sorted: the oldest first.
func (l *logbook) names(name string) ([]string, error) {
	entries, err := os.ReadDir(l.dir)
	if err != nil {
		return nil, fmt.Errorf("list logs: %w", err)
	}
	var out []string
	for _, e := range entries {
		if e.Type().IsRegular() && strings.HasSuffix(e.Name(), ".jsonl") && (name == "" || strings.HasSuffix(e.Name(), "-"+name+".jsonl")) {
			out = append(out, e.Name())
		}
	}
	return out, nil
}

func (l *logbook) size(name string) (n int64, err error) {
	names, err := l.names(name)
	if err != nil {
		return 0, err
	}
	for _, name := range names {
		if info, err := os.Stat(filepath.Join(l.dir, name)); err == nil {
			n += info.Size()
		}
	}
	return n, nil
}

// prepare opens a user's log and fails if there is no room in it: without a
// record nothing runs.
func (l *logbook) prepare(uid uint32) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	f, err := l.file(userLog(uid))
	if err != nil {
		return fmt.Errorf("open the machine's log: %w", err)
	}
	if f.before+f.Stats().Bytes >= l.limit {
		return refuse("the administrator can move the oldest files of "+l.dir+" away",
			fmt.Sprintf("the log of user %d has reached %d MiB", uid, l.limit>>20))
	}
	return nil
}

// append writes an event of a user. When it fails, its attempts are counted as
// lost.
func (l *logbook) append(uid uint32, e event.Event) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	f, err := l.file(userLog(uid))
	switch {
	case err != nil:
		l.lose(userLog(uid), max(e.Count, 1), event.LossLog)
		return err
	case f.before+f.Stats().Bytes >= l.limit:
		l.lose(userLog(uid), max(e.Count, 1), event.LossFull)
		return errLogFull
	}
	return f.Append(e)
}

// lost counts a user's attempts of which there is no record; tick says so.
func (l *logbook) lost(uid uint32, n uint64, where event.Loss) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lose(userLog(uid), n, where)
}

func (l *logbook) lose(name string, n uint64, where event.Loss) {
	if l.unsaid[name] == nil {
		l.unsaid[name] = map[event.Loss]uint64{}
	}
	l.unsaid[name][where] += n
	l.owe(int64(n))
}

// ownEvent records what is nobody's, at once: n attempts that are lost, if any.
func (l *logbook) ownEvent(e event.Event, n uint64, where event.Loss) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	f, err := l.file(ownLog)
	if err != nil {
		if n > 0 {
			l.lose(ownLog, n, where)
		}
		return err
	}
	f.Lost(n, where.String())
	return f.Append(e)
}

// lossEvent carries what was lost: the Writer fills in how much.
func lossEvent(where event.Loss, detail string) event.Event {
	return event.Event{Verdict: event.Audit, Layer: event.LayerSupervisor, Reason: event.System, Rule: event.LossRule(where),
		Detail: event.Text(detail)}
}

// keepEvery is how many ticks go by before the ledger is saved: only how much a
// successor has to read again depends on it.
const keepEvery = 30

// tick records what was lost since the last time, so that it is known even if
// this process is killed.
func (l *logbook) tick() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.say()
	if l.ticks++; l.ticks%keepEvery != 0 || l.kept == l.ledger.Counts.Events {
		return nil
	}
	return l.keep()
}

// say records losses: first, of each log that is open, those of lines that could
// not be written. What cannot be said now is said later.
func (l *logbook) say() {
	for _, f := range l.open {
		_ = f.SayLost(0, event.LossLog, "attempts that could not be recorded")
	}
	for name, losses := range l.unsaid {
		f, err := l.file(name)
		if err != nil {
			continue
		}
		for where, n := range losses {
			_ = f.SayLost(n, where, "attempts that were too many to be recorded")
			l.owe(-int64(n))
		}
		delete(l.unsaid, name)
	}
}

// rotate begins new files; what was renamed or removed is let go.
func (l *logbook) rotate() error { return l.close() }

func (l *logbook) close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.say()
	var errs []error
	for name, f := range l.open {
		errs = append(errs, f.Close())
		delete(l.open, name)
	}
	return errors.Join(append(errs, l.keep())...)
}

// reported finds the number of the last report of a sandbox that is in its
// user's logs.
func (l *logbook) reported(uid uint32, sandbox string) (last uint64, err error) {
	names, err := l.names(userLog(uid))
	if err != nil {
		return 0, err
	}
	for _, name := range names {
		f, err := os.Open(filepath.Join(l.dir, name))
		if err != nil {
			return last, fmt.Errorf("read the log: %w", err)
		}
		for e := range audit.Read(f, name) { // a torn last line was not acknowledged
			if e.Sandbox.ID == sandbox {
				last = max(last, e.Reported)
			}
		}
		f.Close()
	}
	return last, nil
}

// hand opens a file of one log, or of any. Not one that is new and not locked yet:
// who gets it could lock it first.
func (l *logbook) hand(name, file string) (*os.File, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	all, err := l.names(name)
	if err != nil {
		return nil, err
	}
	if _, found := slices.BinarySearch(all, file); !found {
		return nil, refuse("", "the caller has no such log")
	}
	f, err := os.Open(filepath.Join(l.dir, file))
	if err != nil {
		return nil, fmt.Errorf("open the log: %w", err)
	}
	return f, nil
}

// counts is what the lines of all logs add up to.
func (l *logbook) counts() event.Counts {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.ledger.Counts.Clone()
}

// bytes is how much is in the files that are open, and before them.
func (l *logbook) bytes() (n int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, f := range slices.Collect(maps.Values(l.open)) {
		n += f.before + f.Stats().Bytes
	}
	return n
}
