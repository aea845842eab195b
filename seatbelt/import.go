package seatbelt

import (
	"errors"
	"io"

	"github.com/sallyport/sallyport/internal/event"
)

// Imported says what an Import found.
type Imported struct {
	Outcomes Counts
	Attempts uint64 // in the violations kept
	Lost     uint64 // entries that the log dropped
	// Forgeable reports that a text style was read, in which a line break in a
	// message can look like another record.
	Forgeable bool
}

// Import reads what log(1) printed and gives every violation that the kernel or
// sandboxd reported, in the order it stands there. With a tag, only those whose
// message it is. Nothing is left out as noise.
func Import(r io.Reader, tag string, emit func(event.Event) error) (Imported, error) {
	s := NewScanner(r)
	var sum Imported
	var kept Counts
	for {
		rec, err := s.Next()
		if err != nil {
			sum.Outcomes, sum.Forgeable = s.Counts(), s.SawText()
			for o, n := range kept {
				sum.Outcomes[o] += n
			}
			if errors.Is(err, io.EOF) {
				err = nil
			}
			return sum, err
		}
		sum.Lost += rec.Lost
		if rec.Lost > 0 {
			continue
		}
		v, o := ParseViolation(rec.violationText())
		if o == Kept && tag != "" && v.Message != tag {
			o = OtherTag
		}
		kept[o]++
		if o != Kept {
			continue
		}
		sum.Attempts += v.Count
		if err := emit(v.Event(rec)); err != nil {
			return sum, err
		}
	}
}

// violationText is the part of a record that ParseViolation reads: sandboxd
// puts a whole report below its first line.
func (r Record) violationText() string {
	if r.Reporter != Sandboxd {
		return r.Text
	}
	for i := 0; i < len(r.Text); i++ {
		if r.Text[i] == '\n' {
			return r.Text[:i]
		}
	}
	return r.Text
}
