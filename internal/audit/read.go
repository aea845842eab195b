package audit

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"iter"

	"github.com/sallyport/sallyport/internal/event"
)

var (
	// ErrTruncated is the cause when a file ends in a part of a line.
	ErrTruncated = errors.New("the last line is not whole")
	// ErrChain is the cause when a line does not follow the one before it.
	ErrChain = errors.New("the chain is broken")
)

// LineError says what is wrong with a line; reading goes on with the next.
type LineError struct {
	File string
	Line int // from 1
	Err  error
}

func (e *LineError) Error() string { return fmt.Sprintf("%s:%d: %v", e.File, e.Line, e.Err) }
func (e *LineError) Unwrap() error { return e.Err }

// Record is an event as it lies in a log.
type Record struct {
	event.Event
	Line   []byte // the stored bytes, without the newline
	File   string
	Number int // of the line, from 1
}

// Read gives the events of one log. An error is a *LineError, after which
// reading goes on, or that of the reader, which ends it. The chain is not
// looked at: see Verify.
func Read(r io.Reader, name string) iter.Seq2[event.Event, error] {
	return func(yield func(event.Event, error) bool) {
		s := scanner{lines: newLineReader(r), name: name}
		for {
			rec, err := s.next()
			if errors.Is(err, io.EOF) || !yield(rec.Event, err) || ends(err) {
				return
			}
		}
	}
}

// ends reports whether nothing can be read after an error.
func ends(err error) bool {
	var le *LineError
	return err != nil && (!errors.As(err, &le) || errors.Is(err, ErrTruncated))
}

// Verify reads one log to its end and gives the first broken line as a
// *LineError, or nil.
func Verify(r io.Reader, name string) error {
	s := scanner{lines: newLineReader(r), name: name, chain: &chain{prev: firstPrev}}
	for {
		if _, err := s.next(); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
	}
}

// chain is what the next line must hold.
type chain struct {
	seq  uint64
	prev string // empty: the line before could not be read whole
}

// follow checks a line and goes on from it, right or wrong, so that each break
// is reported once. e is nil for a line that is not an event.
func (c *chain) follow(line []byte, e *event.Event) error {
	want := *c
	sum := sha256.Sum256(line)
	*c = chain{seq: want.seq + 1, prev: hex.EncodeToString(sum[:])}
	if e == nil {
		return nil
	}
	c.seq = e.Seq
	switch {
	case e.Seq != want.seq+1:
		return fmt.Errorf("%w: seq %d after %d", ErrChain, e.Seq, want.seq)
	case want.prev != "" && e.Prev != want.prev:
		return fmt.Errorf("%w: the line before it, or its prev, was changed", ErrChain)
	}
	return nil
}

// scanner turns lines into records.
type scanner struct {
	lines *lineReader
	name  string
	chain *chain  // nil: not checked
	held  *Record // to be given after the error about its place in the chain
}

// next gives the next record, a *LineError, or the reader's error (io.EOF at
// the end). Record.Line is valid until the next call.
func (s *scanner) next() (Record, error) {
	if s.held != nil {
		rec := *s.held
		s.held = nil
		return rec, nil
	}
	line, err := s.lines.next()
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF):
		return Record{}, &LineError{s.name, s.lines.number + 1, ErrTruncated}
	case errors.Is(err, errTooLong):
		if s.chain != nil {
			*s.chain = chain{seq: s.chain.seq + 1}
		}
		return Record{}, &LineError{s.name, s.lines.number, err}
	case err != nil:
		return Record{}, err
	}
	return s.record(line)
}

func (s *scanner) record(line []byte) (Record, error) {
	e, err := decode(line)
	if err != nil {
		if s.chain != nil {
			_ = s.chain.follow(line, nil)
		}
		return Record{}, &LineError{s.name, s.lines.number, err}
	}
	rec := Record{Event: e, Line: line, File: s.name, Number: s.lines.number}
	if s.chain == nil {
		return rec, nil
	}
	if err := s.chain.follow(line, &e); err != nil {
		s.held = &rec
		return Record{}, &LineError{s.name, s.lines.number, err}
	}
	return rec, nil
}
