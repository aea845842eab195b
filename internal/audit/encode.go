package audit

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/sallyport/sallyport/internal/event"
)

var errTooLong = fmt.Errorf("line is longer than %d bytes", maxLine)

// encoder turns events into lines; its buffer is used again for each.
type encoder struct{ buf bytes.Buffer }

// line gives the event as one line with its newline, valid until the next call.
// An event too long for a line loses its argument lists first and says so.
func (c *encoder) line(e event.Event) ([]byte, error) {
	b, err := c.encode(e)
	if errors.Is(err, errTooLong) {
		return c.encode(withoutArgv(e))
	}
	return b, err
}

func (c *encoder) encode(e event.Event) ([]byte, error) {
	c.buf.Reset()
	enc := json.NewEncoder(&c.buf)
	enc.SetEscapeHTML(false) // the log is read by people and jq, not browsers
	if err := enc.Encode(e); err != nil {
		return nil, err
	}
	if c.buf.Len() > maxLine {
		return nil, errTooLong
	}
	return c.buf.Bytes(), nil
}

func withoutArgv(e event.Event) event.Event {
	if e.Process != nil {
		p := *e.Process
		p.Argv = nil
		e.Process = &p
	}
	ancestors := append([]event.Process(nil), e.Ancestors...)
	for i := range ancestors {
		ancestors[i].Argv = nil
	}
	e.Ancestors = ancestors
	e.Detail += " (arguments left out: too long)"
	return e
}
