package audit

import (
	"container/heap"
	"errors"
	"io"
	"io/fs"
	"iter"
	"strings"
	"time"
)

// clockSlack is how far wrong the time of a file may be before a file outside
// the asked time is left unread: clocks are set, and files copied.
const clockSlack = 24 * time.Hour

// Query gives the records of all logs in dir that match, oldest first; within a
// file the order is the file's. Errors come in between and do not end it: a
// *LineError for a broken line or chain, or that of a file that cannot be read.
// It holds one record for each file that is open at the same moment of the
// history, and Limit of them.
func Query(dir string, f Filter) iter.Seq2[Record, error] { return QueryAll(f, DirSource(dir)) }

// QueryAll is Query over several sources.
func QueryAll(f Filter, from ...Source) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		s := newStream(f, from)
		defer s.close()
		for _, p := range s.places {
			if err := s.list(p); err != nil && !yield(Record{}, err) {
				return
			}
		}
		s.history(yield)
	}
}

// stream reads logs in rounds: each gives what came since the one before.
type stream struct {
	places []*place
	filter Filter
	heap   cursorHeap         // in this round
	idle   map[string]*cursor // open files without more to read for now, by path
}

// place is a source, and what is known of it.
type place struct {
	Source
	seen   map[string]bool // every file that needs no new cursor
	anew   map[string]bool // files to look at again
	behind []fs.DirEntry   // as listed last
}

func newStream(f Filter, from []Source) *stream {
	s := &stream{filter: f, idle: map[string]*cursor{}}
	for _, src := range from {
		s.places = append(s.places, &place{Source: src, seen: map[string]bool{}, anew: map[string]bool{}})
	}
	return s
}

func (s *stream) close() {
	for _, c := range s.heap {
		c.close()
	}
	for _, c := range s.idle {
		c.close()
	}
}

// list puts the files of a place that are new into the round.
func (s *stream) list(p *place) error {
	entries, changed, err := p.List()
	switch {
	case err != nil:
		return err
	case changed:
		p.behind = entries
	case len(p.anew) == 0:
		return nil
	}
	seen := make(map[string]bool, len(p.behind))
	for _, entry := range p.behind {
		name := entry.Name()
		if !entry.Type().IsRegular() || !strings.HasSuffix(name, fileSuffix) {
			continue
		}
		known := p.seen[name] && !p.anew[name]
		seen[name] = true
		if !known && s.mayMatch(entry) {
			s.heap = append(s.heap, newCursor(p, name))
		}
	}
	p.seen, p.anew = seen, map[string]bool{}
	return nil
}

// mayMatch leaves out files that were finished long before, or started long
// after the asked time.
func (s *stream) mayMatch(entry fs.DirEntry) bool {
	if !s.filter.Until.IsZero() && started(entry.Name()).After(s.filter.Until.Add(clockSlack)) {
		return false
	}
	if s.filter.Since.IsZero() {
		return true
	}
	info, err := entry.Info()
	return err != nil || !info.ModTime().Before(s.filter.Since.Add(-clockSlack))
}

// history gives what is there, or the last Limit of it. It reports whether to
// go on.
func (s *stream) history(yield func(Record, error) bool) bool {
	switch {
	case s.filter.Limit == 0:
		return s.round(yield)
	case s.filter.Limit < 0:
		return s.round(func(r Record, err error) bool { return err == nil || yield(r, err) })
	}
	var last ring
	if !s.round(func(r Record, err error) bool {
		if err != nil {
			return yield(r, err)
		}
		last.add(r, s.filter.Limit)
		return true
	}) {
		return false
	}
	for r := range last.all() {
		if !yield(r, nil) {
			return false
		}
	}
	return true
}

// round merges the files of the heap until none has more. A file is opened when
// its turn comes, so that a long history needs few at once.
func (s *stream) round(yield func(Record, error) bool) bool {
	heap.Init(&s.heap)
	for len(s.heap) > 0 {
		c := s.heap[0]
		if c.ready && !yield(c.rec, nil) {
			return false
		}
		goOn := s.load(c, yield)
		if c.ready {
			heap.Fix(&s.heap, 0)
		} else {
			heap.Pop(&s.heap)
			s.park(c)
		}
		if !goOn {
			return false
		}
	}
	return true
}

// load moves a cursor to its next record, telling errors on the way. It reports
// whether to go on.
func (s *stream) load(c *cursor, yield func(Record, error) bool) bool {
	c.ready = false
	if c.file == nil {
		err := c.open()
		if errors.Is(err, fs.ErrNotExist) { // removed since: a log without a line
			return true
		}
		if err != nil {
			return yield(Record{}, err)
		}
	}
	for !c.done {
		err := c.load(&s.filter)
		if err == nil || errors.Is(err, io.EOF) {
			return true
		}
		if !yield(Record{}, err) {
			return false
		}
	}
	return true
}

// park puts away a cursor that has no more for now.
func (s *stream) park(c *cursor) {
	switch {
	case c.done:
		c.close()
	case c.empty(): // perhaps not locked yet: look at it anew, hold no descriptor
		c.close()
		c.from.anew[c.name] = true
	default:
		s.idle[c.path] = c
	}
}

type cursorHeap []*cursor

func (h cursorHeap) Len() int      { return len(h) }
func (h cursorHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h cursorHeap) Less(i, j int) bool {
	if h[i].key.Equal(h[j].key) {
		return h[i].name < h[j].name
	}
	return h[i].key.Before(h[j].key)
}
func (h *cursorHeap) Push(c any) { *h = append(*h, c.(*cursor)) }
func (h *cursorHeap) Pop() any {
	old := *h
	c := old[len(old)-1]
	*h = old[:len(old)-1]
	return c
}

// ring keeps the last records.
type ring struct {
	records []Record
	next    int // where the oldest is, once it is full
}

func (r *ring) add(rec Record, limit int) {
	if len(r.records) < limit {
		r.records = append(r.records, rec)
		return
	}
	r.records[r.next] = rec
	r.next = (r.next + 1) % limit
}

func (r *ring) all() iter.Seq[Record] {
	return func(yield func(Record) bool) {
		for i := range r.records {
			if !yield(r.records[(r.next+i)%len(r.records)]) {
				return
			}
		}
	}
}
