package audit

import (
	"bufio"
	"errors"
	"io"
)

// lineReader cuts a stream into lines of bounded length and knows where it is.
type lineReader struct {
	r      *bufio.Reader
	buf    []byte
	number int   // of the line given last, from 1
	offset int64 // of the first byte not given yet
}

func newLineReader(r io.Reader) *lineReader {
	return &lineReader{r: bufio.NewReaderSize(r, 64<<10)}
}

// next gives the next line without its newline, valid until the next call.
// io.EOF: there is none; io.ErrUnexpectedEOF: there is a part of one, which was
// not counted; errTooLong: it was skipped.
func (l *lineReader) next() ([]byte, error) {
	l.buf = l.buf[:0]
	var size int64
	for {
		part, err := l.r.ReadSlice('\n')
		size += int64(len(part))
		if size <= maxLine+1 { // the newline is not the line's
			l.buf = append(l.buf, part...)
		}
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case errors.Is(err, io.EOF) && size > 0:
			return nil, io.ErrUnexpectedEOF
		case err != nil:
			return nil, err
		}
		l.number++
		l.offset += size
		if size > maxLine+1 {
			return nil, errTooLong
		}
		return l.buf[:len(l.buf)-1], nil
	}
}

// rewind goes on from r, which must stand at the offset.
func (l *lineReader) rewind(r io.Reader) { l.r.Reset(r) }
