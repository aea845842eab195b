package audit

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/sallyport/sallyport/internal/event"
)

// Position says how far a reader has come with the logs of a directory. The
// reader keeps it: the logs are its queue, and what was read is never lost
// before the position that comes after it was kept.
type Position struct {
	// Done: all logs up to this name were read to an end that cannot move, and
	// are old enough that no clock that is set gives a new one an earlier name.
	Done string           `json:"done,omitempty"`
	Read map[string]Place `json:"read,omitempty"` // in each log after it
}

// Place is how far a log was read.
type Place struct {
	At   int64 `json:"at"`
	Size int64 `json:"size"`           // as it was then
	Done bool  `json:"done,omitempty"` // nothing more comes
}

// Entry is one line of a log. Err says why it is no event.
type Entry struct {
	event.Event
	Line []byte
	File string
	Err  error
}

// Batch is what comes after a position.
type Batch struct {
	Entries []Entry
	Next    Position
	// Behind is how many bytes of whole logs come after Next.
	Behind int64
	// Gone names logs that were removed before they were read to their end.
	Gone []string
	// Live is the number of logs that somebody writes to.
	Live int

	most  int
	bytes int
}

func (b *Batch) full() bool { return len(b.Entries) >= b.most || b.bytes >= batchBytes }

// readChunk is how much of a log is read at once, batchBytes how much a batch
// holds.
const (
	readChunk  = 256 << 10
	batchBytes = 4 << 20
)

// emptyGrace is how long a log may be without a line and without a lock: its
// writer has just made it.
const emptyGrace = time.Minute

// nameSlack is how far a clock may be set back without a log being overlooked.
const nameSlack = time.Hour

// After reads up to most lines that come after a position: of each log in
// order, of the logs by their names, which sort by time. It holds no log open
// and no more than these lines in memory. now is the time.
func (p Position) After(dir string, most int, now time.Time) (b Batch, err error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		entries, err = nil, nil
	}
	if err != nil {
		return b, fmt.Errorf("list logs: %w", err)
	}
	b.most = most
	next := Position{Done: p.Done, Read: map[string]Place{}}
	for _, e := range entries {
		name := e.Name()
		if name <= p.Done || !e.Type().IsRegular() || !strings.HasSuffix(name, fileSuffix) {
			continue
		}
		at := p.Read[name]
		if !at.Done {
			if at, err = b.read(dir, name, at, now); errors.Is(err, fs.ErrNotExist) {
				continue // removed since it was listed: a log without a line
			} else if err != nil {
				return b, err
			}
		}
		next.Read[name] = at
	}
	for name, at := range p.Read {
		if _, there := next.Read[name]; !there && at.At < at.Size {
			b.Gone = append(b.Gone, name)
		}
	}
	slices.Sort(b.Gone)
	next.settle(now)
	b.Next = next
	return b, nil
}

// PositionAt is the position of who knows all of some logs but the open ones,
// and of those so many bytes.
func PositionAt(names []string, open map[string]int64, now time.Time) Position {
	p := Position{Read: map[string]Place{}}
	for _, name := range names {
		n, growing := open[name]
		p.Read[name] = Place{At: n, Size: n, Done: !growing}
	}
	p.settle(now)
	return p
}

// Bytes is how much of the logs after Done there was.
func (p Position) Bytes() (n int64) {
	for _, at := range p.Read {
		n += at.Size
	}
	return n
}

// settle moves Done over the logs at the beginning that are finished.
func (p *Position) settle(now time.Time) {
	for _, name := range slices.Sorted(maps.Keys(p.Read)) {
		if !p.Read[name].Done || started(name).After(now.Add(-nameSlack)) {
			return
		}
		p.Done = name
		delete(p.Read, name)
	}
}

// read takes lines of one log and gives the place after them.
func (b *Batch) read(dir, name string, at Place, now time.Time) (Place, error) {
	f, err := os.Open(filepath.Join(dir, name))
	if err != nil {
		return at, err
	}
	defer f.Close()
	live := isLive(f) // before the size: what is written later keeps it so
	info, err := f.Stat()
	if err != nil {
		return at, err
	}
	if live {
		b.Live++
	}
	at.Size = info.Size()
	if at.At > at.Size { // cut short: nothing of what is there was read
		at.At = 0
	}
	for at.At < at.Size && !b.full() {
		n, err := b.chunk(f, name, at.At)
		if err != nil {
			return at, fmt.Errorf("read %s: %w", name, err)
		}
		if n == 0 { // a part of a line, whole later or never
			break
		}
		at.At += n
	}
	whole := at.At >= at.Size || !b.full()
	if whole && !live && (at.Size > 0 || now.Sub(info.ModTime()) > emptyGrace) {
		at.At, at.Done = at.Size, true // what is left is a torn line
	}
	b.Behind += at.Size - at.At
	return at, nil
}

// chunk reads whole lines from a place and gives their length.
func (b *Batch) chunk(f *os.File, name string, at int64) (n int64, err error) {
	buf := make([]byte, readChunk)
	for {
		got, err := f.ReadAt(buf, at)
		if err != nil && !errors.Is(err, io.EOF) {
			return 0, err
		}
		buf = buf[:got]
		if bytes.IndexByte(buf, '\n') >= 0 || errors.Is(err, io.EOF) || got > maxLine {
			break
		}
		buf = make([]byte, 2*cap(buf))
	}
	for !b.full() {
		line, rest, whole := bytes.Cut(buf, []byte("\n"))
		if !whole {
			if len(buf) > maxLine { // of no writer of ours: gone over piece by piece
				b.Entries = append(b.Entries, Entry{File: name, Err: errTooLong})
				n += int64(len(buf))
			}
			break
		}
		e, err := decode(line)
		b.Entries = append(b.Entries, Entry{Event: e, Line: line, File: name, Err: err})
		n += int64(len(line)) + 1
		b.bytes += len(line)
		buf = rest
	}
	return n, nil
}
