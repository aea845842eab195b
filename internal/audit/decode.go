package audit

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"

	"github.com/sallyport/sallyport/internal/event"
)

// decode reads one line. It is strict: what this version does not know is an
// error, unless the line says that a later version wrote it.
func decode(line []byte) (event.Event, error) {
	if !utf8.Valid(line) {
		return event.Event{}, errors.New("not UTF-8") // encoding/json would change it silently
	}
	e, err := decodeAs(line, true)
	if err != nil && schemaOf(line) > event.SchemaVersion {
		e, err = decodeAs(line, false)
	}
	if err == nil {
		err = validate(e)
	}
	if err != nil {
		return event.Event{}, err
	}
	return e, nil
}

func decodeAs(line []byte, strict bool) (event.Event, error) {
	var e event.Event
	dec := json.NewDecoder(bytes.NewReader(line))
	if strict {
		dec.DisallowUnknownFields()
	}
	err := dec.Decode(&e)
	if errors.Is(err, io.EOF) {
		err = errors.New("empty line")
	}
	if err != nil {
		return event.Event{}, err
	}
	if rest := bytes.TrimSpace(line[dec.InputOffset():]); len(rest) > 0 {
		return event.Event{}, fmt.Errorf("%d bytes after the event", len(rest))
	}
	return e, nil
}

func schemaOf(line []byte) int {
	var v struct{ Schema int }
	if json.Unmarshal(line, &v) != nil {
		return 0
	}
	return v.Schema
}

// validate refuses what no writer writes: a line that lacks its frame would
// otherwise read as a denial of nothing.
func validate(e event.Event) error {
	switch {
	case e.Schema < 1:
		return errors.New("no schema")
	case e.Seq < 1:
		return errors.New("no seq")
	case e.Time.IsZero():
		return errors.New("no time")
	case e.Count < 1:
		return errors.New("no count")
	}
	return nil
}
