package audit

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/sallyport/sallyport/internal/event"
)

// whereLog names the log itself as the place where attempts were lost.
const whereLog = "audit-log"

// firstPrev stands where the first line of a file has no line before it.
var firstPrev = strings.Repeat("0", 2*sha256.Size)

// logFile is what a Writer needs of its file.
type logFile interface {
	io.WriteCloser
	Truncate(size int64) error
	Sync() error
}

// Stats is what a Writer has written and lost so far.
type Stats struct {
	Events   uint64                   // lines
	Attempts map[event.Verdict]uint64 // sums of count
	Lost     map[string]uint64        // attempts without a record, by where they were lost
	Bytes    int64
}

// LostTotal is the number of attempts without a record.
func (s Stats) LostTotal() uint64 {
	var n uint64
	for _, c := range s.Lost {
		n += c
	}
	return n
}

// Writer appends events to one log. It is safe for concurrent use.
//
// An event that cannot be written (full disk) is reported to the caller and
// counted; the count goes out with the next event that can be written, or with
// a record of its own at Close. For that record the Writer keeps some disk
// space in reserve and gives it back only then.
type Writer struct {
	mu      sync.Mutex
	path    string
	file    logFile
	reserve *reserve
	head    Header
	enc     encoder
	seq     uint64
	prev    string
	torn    bool   // the file may end in a part of a line
	unsaid  uint64 // lost attempts that no event has carried yet
	stats   Stats
	closed  bool
	observe func(*event.Event)
}

// Create makes a new log in dir, and dir where it is missing. A directory that
// others may write to is refused: they could replace the record.
func Create(dir string, h Header) (*Writer, error) {
	w, err := create(dir, h)
	if err != nil {
		return nil, fmt.Errorf("create audit log: %w", err)
	}
	return w, nil
}

func create(dir string, h Header) (*Writer, error) {
	if dir == "" {
		return nil, errors.New("no directory to keep it in")
	}
	name, err := fileName(time.Now(), h.Sandbox.ID)
	if err != nil {
		return nil, err
	}
	if err := makeDir(dir); err != nil {
		return nil, err
	}
	path := filepath.Join(dir, name)
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	r, err := makeReserve(dir)
	if err == nil {
		err = lock(f)
	}
	if err != nil {
		r.release()
		return nil, errors.Join(err, f.Close(), os.Remove(path))
	}
	return newWriter(path, f, r, h), nil
}

func newWriter(path string, f logFile, r *reserve, h Header) *Writer {
	return &Writer{path: path, file: f, reserve: r, head: h, prev: firstPrev,
		stats: Stats{Attempts: map[event.Verdict]uint64{}, Lost: map[string]uint64{}}}
}

func makeDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	if info.Mode().Perm()&0o022 != 0 {
		return &fs.PathError{Op: "use", Path: dir, Err: errors.New("writable by others (chmod go-w it)")}
	}
	return nil
}

// Observe has f called with each event that was written, as it was written.
func (w *Writer) Observe(f func(*event.Event)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.observe = f
}

// Path is where the log lies.
func (w *Writer) Path() string { return w.path }

// Append writes one event. It fills Schema, Seq, Prev, Mono, BootID, Host,
// LostSinceLast, and, where they are empty, Sandbox, Time, Count, First and
// Last. When it fails, the event's attempts are counted as lost.
func (w *Writer) Append(e event.Event) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.append(e); err != nil {
		w.lose(max(e.Count, 1), whereLog)
		return fmt.Errorf("append to audit log: %w", err)
	}
	return nil
}

// Lost counts attempts that happened at a place (a packet queue, a ring buffer)
// but of which there can be no record.
func (w *Writer) Lost(n uint64, where string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lose(n, where)
}

// SayLost counts like Lost, and writes a record of all losses that no event has
// carried, if there are any. It fails if that cannot be written; a later event
// carries them then.
func (w *Writer) SayLost(n uint64, where event.Loss, detail event.Text) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lose(n, where.String())
	return w.sayLost(where, detail)
}

// Stats gives the counts so far.
func (w *Writer) Stats() Stats {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.stats
	s.Attempts, s.Lost = maps.Clone(s.Attempts), maps.Clone(s.Lost)
	return s
}

// Close records what was lost since the last event, brings the log to the disk
// and lets go of it. A log without a line is removed.
func (w *Writer) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return nil
	}
	w.reserve.release()
	err := w.sayLost(event.LossLog, "attempts that could not be recorded")
	if w.stats.Bytes == 0 && !w.torn {
		err = errors.Join(err, os.Remove(w.path))
	} else {
		err = errors.Join(err, w.file.Sync())
	}
	err = errors.Join(err, w.file.Close())
	w.closed = true
	if err != nil {
		return fmt.Errorf("close audit log: %w", err)
	}
	return nil
}

func (w *Writer) lose(n uint64, where string) {
	if n > 0 {
		w.unsaid += n
		w.stats.Lost[where] += n
	}
}

// sayLost writes a record of its own for losses that no event has carried.
func (w *Writer) sayLost(where event.Loss, detail event.Text) error {
	if w.unsaid == 0 {
		return w.repair()
	}
	return w.append(event.Event{Verdict: event.Audit, Layer: event.LayerSupervisor, Reason: event.System,
		Rule: event.LossRule(where), Detail: detail})
}

// append writes one line with one write(2): O_APPEND and the lock make it the
// file's next line, or nothing.
func (w *Writer) append(e event.Event) error {
	if w.closed {
		return os.ErrClosed
	}
	if err := w.repair(); err != nil {
		return err
	}
	w.fill(&e)
	line, err := w.enc.line(e)
	if err != nil {
		return err
	}
	n, err := w.file.Write(line)
	if err != nil {
		w.torn = n > 0
		return errors.Join(err, w.repair())
	}
	sum := sha256.Sum256(line[:len(line)-1])
	w.seq, w.prev, w.unsaid = e.Seq, hex.EncodeToString(sum[:]), 0
	w.stats.Events++
	w.stats.Attempts[e.Verdict] += e.Count
	w.stats.Bytes += int64(len(line))
	if w.observe != nil {
		w.observe(&e)
	}
	return nil
}

func (w *Writer) fill(e *event.Event) {
	e.Schema, e.Seq, e.Prev = event.SchemaVersion, w.seq+1, w.prev
	e.Mono, e.BootID, e.Host = mono(), w.head.BootID, event.Text(w.head.Host)
	e.LostSinceLast = w.unsaid
	if e.Sandbox.ID == "" {
		e.Sandbox = w.head.Sandbox
	}
	complete(e, time.Now())
	e.Time, e.First, e.Last = e.Time.UTC(), e.First.UTC(), e.Last.UTC()
}

// complete fills what an event of one attempt may leave out.
func complete(e *event.Event, now time.Time) {
	if e.Time.IsZero() {
		e.Time = now
	}
	if e.First.IsZero() {
		e.First = e.Time
	}
	if e.Last.IsZero() {
		e.Last = e.First
	}
	e.Count = max(e.Count, 1)
}

// repair cuts off what a partial write left behind; until that works nothing
// more is written, so that no line ever follows a torn one.
func (w *Writer) repair() error {
	if !w.torn {
		return nil
	}
	if err := w.file.Truncate(w.stats.Bytes); err != nil {
		return fmt.Errorf("cut off a torn line: %w", err)
	}
	w.torn = false
	return nil
}
