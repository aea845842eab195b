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

// logbook holds the logs that are open.
type logbook struct {
	dir    string
	head   audit.Header
	limit  int64 // of one user's files
	mu     sync.Mutex
	open   map[string]*userFile
	counts counts
}

type userFile struct {
	*audit.Writer
	before int64  // bytes of the user's other files
	said   uint64 // lost, as told by a record
}

// counts are what became of events, of all users, for the exposition.
type counts struct {
	events uint64
	lost   map[string]uint64 // by where
	denied map[deniedKey]uint64
	system map[event.Operation]uint64
}

type deniedKey struct {
	layer     event.Layer
	operation event.Operation
	reason    event.Reason
}

func newLogbook(dir string, head audit.Header, limit int64) *logbook {
	return &logbook{dir: dir, head: head, limit: limit, open: map[string]*userFile{},
		counts: counts{lost: map[string]uint64{}, denied: map[deniedKey]uint64{}, system: map[event.Operation]uint64{}}}
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
	if err == nil && f.before+f.Stats().Bytes >= l.limit {
		f.Lost(max(e.Count, 1), "full")
		err = errLogFull
	}
	if err == nil {
		err = f.Append(e)
	}
	if err != nil {
		l.counts.lost["audit-log"] += max(e.Count, 1)
		return err
	}
	l.count(&e)
	return nil
}

func (l *logbook) count(e *event.Event) {
	l.counts.events++
	switch n := max(e.Count, 1); {
	case !e.Verdict.Denied():
	case e.Reason == event.System:
		l.counts.system[e.Operation] += n
	default:
		l.counts.denied[deniedKey{e.Layer, e.Operation, e.Reason}] += n
	}
}

// lost counts a user's attempts of which there is no record; tick says so.
func (l *logbook) lost(uid uint32, n uint64, where string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.counts.lost[where] += n
	if f, err := l.file(userLog(uid)); err == nil {
		f.Lost(n, where)
	}
}

// ownEvent records what is nobody's, at once: n attempts that are lost, if any.
func (l *logbook) ownEvent(e event.Event, n uint64, where string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if n > 0 {
		l.counts.lost[where] += n
	}
	f, err := l.file(ownLog)
	if err != nil {
		return err
	}
	f.Lost(n, where)
	f.said += n
	return f.Append(e)
}

// lossEvent carries what was lost: the Writer fills in how much.
func lossEvent(where, detail string) event.Event {
	return event.Event{Verdict: event.Audit, Layer: event.LayerSupervisor, Reason: event.System, Rule: "builtin:" + where,
		Detail: event.Text(detail)}
}

// tick records what was lost since the last time, so that it is known even if
// this process is killed.
func (l *logbook) tick() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, f := range l.open {
		if n := f.Stats().LostTotal(); n > f.said && f.Append(lossEvent("audit-log", "attempts that were too many to be recorded")) == nil {
			f.said = n
		}
	}
}

// rotate begins new files; what was renamed or removed is let go.
func (l *logbook) rotate() error { return l.close() }

func (l *logbook) close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	var errs []error
	for name, f := range l.open {
		errs = append(errs, f.Close())
		delete(l.open, name)
	}
	return errors.Join(errs...)
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

// snapshot is for the exposition.
func (l *logbook) snapshot() counts {
	l.mu.Lock()
	defer l.mu.Unlock()
	return counts{l.counts.events, maps.Clone(l.counts.lost), maps.Clone(l.counts.denied), maps.Clone(l.counts.system)}
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
