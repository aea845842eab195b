package seatbelt

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"time"
)

// maxRecord bounds a line, and the lines of one record together.
const maxRecord = 1 << 20

// Counts says how many lines or records had which outcome.
type Counts [outcomes]uint64

// Scanner reads what log(1) printed, in any of its styles, also mixed: each
// line stands on its own, and what is no record of a believable reporter is
// counted and left out. Its memory does not grow with the input.
type Scanner struct {
	// Zone is what times without one are in: the compact style's.
	Zone *time.Location

	in     *bufio.Reader
	counts Counts
	line   []byte // of a line longer than the reader's buffer
	memory lineMemory
	text   textRecord
	held   bool // line is to be read once more
	styles bool
	err    error
}

// textRecord is a record in a text style that further lines may belong to.
type textRecord struct {
	open    bool
	record  Record
	body    []byte
	tooLong bool
}

// NewScanner reads from r.
func NewScanner(r io.Reader) *Scanner {
	return &Scanner{Zone: time.Local, in: bufio.NewReaderSize(r, 64<<10)}
}

// Counts gives what became of everything read so far.
func (s *Scanner) Counts() Counts { return s.counts }

// SawText reports whether any record was in a text style, which is no proof of
// anything.
func (s *Scanner) SawText() bool { return s.styles }

// Next gives the next record of the kernel or sandboxd, or io.EOF.
func (s *Scanner) Next() (Record, error) {
	for s.err == nil {
		line, tooLong, err := s.readLine()
		if err != nil {
			s.err = err
			break
		}
		if r, ok := s.take(line, tooLong); ok {
			return r, nil
		}
	}
	if r, ok := s.closeText(); ok {
		return r, nil
	}
	return Record{}, s.err
}

// take judges one line.
func (s *Scanner) take(line []byte, tooLong bool) (Record, bool) {
	if tooLong {
		return s.takeTooLong()
	}
	if len(line) > 0 && line[0] == '{' && !s.text.open {
		return s.takeJSON(line)
	}
	if h, ok := parseHeader(line, s.Zone); ok {
		r, had := s.closeText()
		s.openText(h)
		return r, had
	}
	switch {
	case isBanner(line):
		s.counts[Banner]++
		return s.closeText()
	case len(line) > 0 && line[0] == '{' && s.jsonRecord(line):
		r, had := s.closeText()
		s.hold(line)
		return r, had
	case s.text.open:
		s.text.add(line)
	case len(bytes.TrimSpace(line)) > 0:
		s.counts[Broken]++
	}
	return Record{}, false
}

// jsonRecord reports whether a line, which may as well be part of a message,
// is a whole JSON object.
func (s *Scanner) jsonRecord(line []byte) bool {
	_, o := parseNDJSON(line, &s.memory)
	return o != Broken
}

func (s *Scanner) hold(line []byte) {
	s.line = append(s.line[:0], line...)
	s.held = true
}

func (s *Scanner) takeJSON(line []byte) (Record, bool) {
	r, o := parseNDJSON(line, &s.memory)
	if o != Kept {
		s.counts[o]++
	}
	return r, o == Kept
}

// takeTooLong drops a line, and what it was part of.
func (s *Scanner) takeTooLong() (Record, bool) {
	if s.text.open {
		s.text.tooLong = true
		return Record{}, false
	}
	s.counts[TooLong]++
	return Record{}, false
}

func (s *Scanner) openText(h header) {
	s.styles = true
	s.text.open, s.text.tooLong = true, false
	s.text.record = Record{Time: h.time, Reporter: h.reporter}
	s.text.body = append(s.text.body[:0], h.text...)
}

func (t *textRecord) add(line []byte) {
	if t.record.Reporter == SomeProcess || t.tooLong {
		return
	}
	if len(t.body)+1+len(line) > maxRecord {
		t.tooLong = true
		return
	}
	t.body = append(append(t.body, '\n'), line...)
}

// closeText ends a text record; ok says whether it counts.
func (s *Scanner) closeText() (Record, bool) {
	if !s.text.open {
		return Record{}, false
	}
	s.text.open = false
	switch {
	case s.text.record.Reporter == SomeProcess:
		s.counts[OtherProcess]++
	case s.text.tooLong:
		s.counts[TooLong]++
	default:
		r := s.text.record
		r.Text = string(bytes.TrimRight(s.text.body, "\n"))
		return r, true
	}
	return Record{}, false
}

// readLine gives a line without its end, valid until the next call. Of a line
// that is too long nothing is kept.
func (s *Scanner) readLine() (line []byte, tooLong bool, err error) {
	if s.held {
		s.held = false
		return s.line, false, nil
	}
	line, err = s.in.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		line, tooLong, err = s.readLong(line)
	}
	if err == io.EOF && (len(line) > 0 || tooLong) {
		err = nil
	}
	line = bytes.TrimSuffix(bytes.TrimSuffix(line, []byte("\n")), []byte("\r"))
	return line, tooLong, err
}

func (s *Scanner) readLong(first []byte) (line []byte, tooLong bool, err error) {
	s.line = append(s.line[:0], first...)
	for {
		part, err := s.in.ReadSlice('\n')
		if len(s.line)+len(part) > maxRecord {
			tooLong = true
		}
		if !tooLong {
			s.line = append(s.line, part...)
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			if tooLong {
				s.line = s.line[:0]
			}
			return s.line, tooLong, err
		}
	}
}
