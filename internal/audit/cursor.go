package audit

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"time"
)

// cursor reads one file of a directory, and goes on when the file grows.
type cursor struct {
	from       *place
	path, name string
	file       *os.File // nil: not open yet
	scan       scanner
	final      bool // no writer held the file before the bytes now read were read
	done       bool // read to an end that cannot move
	ready      bool // rec is the next to give
	rec        Record
	key        time.Time // of rec, or of the start of a file not open yet
}

func newCursor(from *place, name string) *cursor {
	return &cursor{from: from, path: from.Path(name), name: name, key: started(name)}
}

func (c *cursor) open() error {
	f, err := c.from.Open(c.name)
	if err != nil {
		c.done = true
		return err
	}
	c.file = f
	c.scan = scanner{lines: newLineReader(f), name: c.path, chain: &chain{prev: firstPrev}}
	return nil
}

func (c *cursor) close() {
	if c.file != nil {
		_ = c.file.Close()
		c.file = nil
	}
}

// empty reports that nothing was read: such a file may be one whose writer has
// not locked it yet, so it is never taken as finished.
func (c *cursor) empty() bool { return c.scan.lines.offset == 0 }

// load reads up to the next record that matches. io.EOF: there is none now; any
// other error is worth telling, and load can be called again unless c.done.
func (c *cursor) load(f *Filter) error {
	for {
		rec, err := c.scan.next()
		switch {
		case err == nil && !f.match(&rec.Event):
		case err == nil:
			rec.Line = bytes.Clone(rec.Line)
			c.rec, c.ready, c.key = rec, true, rec.Time
			return nil
		case errors.Is(err, io.EOF), errors.Is(err, ErrTruncated):
			if err := c.atEnd(err); err != nil {
				return err
			}
		case ends(err):
			c.done = true
			return fmt.Errorf("read %s: %w", c.path, err)
		default:
			return err
		}
	}
}

// atEnd decides what an end means. A part of a line is a line being written as
// long as a writer holds the file; once none does, the file is read again from
// there, because the writer may have written just before it let go. nil: look
// again.
func (c *cursor) atEnd(err error) error {
	if c.final {
		c.done = true
		return err
	}
	offset := c.scan.lines.offset
	live := isLive(c.file)
	if size, serr := c.size(); serr != nil || size < offset {
		c.done = true
		return &LineError{c.path, c.scan.lines.number, errors.Join(serr,
			fmt.Errorf("%w: the file became shorter while it was read", ErrChain))}
	}
	if _, err := c.file.Seek(offset, io.SeekStart); err != nil {
		c.done = true
		return err
	}
	c.scan.lines.rewind(c.file)
	if live || errors.Is(err, io.EOF) && c.empty() {
		return io.EOF
	}
	c.final = true
	return nil
}

func (c *cursor) size() (int64, error) {
	info, err := c.file.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}
