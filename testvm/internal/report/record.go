package report

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"time"
)

// Record is one line of what a test VM reports.
type Record struct {
	Kind    string        `json:"kind"` // boot, start, output, end or done
	Release string        `json:"release,omitempty"`
	Step    int           `json:"step,omitempty"`
	Output  []byte        `json:"output,omitempty"`
	Exit    int           `json:"exit,omitempty"`
	Hung    bool          `json:"hung,omitempty"` // killed at its deadline
	Error   string        `json:"error,omitempty"`
	Took    time.Duration `json:"took,omitempty"`
	CPU     time.Duration `json:"-"` // that the machine had used when the harness read this
}

// The kinds of records, in the order they come.
const (
	KindBoot   = "boot"   // the job has begun; Release is the kernel's
	KindStart  = "start"  // of a step
	KindOutput = "output" // of a step
	KindEnd    = "end"    // of a step
	KindDone   = "done"   // of the job: whatever is missing then is a fault
)

// Writer writes records. It is not safe for concurrent use.
type Writer struct{ w io.Writer }

// NewWriter writes to w, one write a record: what was reported before a machine
// dies is not lost.
func NewWriter(w io.Writer) *Writer { return &Writer{w} }

// Write writes one record.
func (w *Writer) Write(r Record) error {
	line, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("encode record: %w", err)
	}
	if _, err := w.w.Write(append(line, '\n')); err != nil {
		return fmt.Errorf("write record: %w", err)
	}
	return nil
}

// Outcome is what became of one step.
type Outcome struct {
	Started bool
	Ended   bool
	Exit    int
	Hung    bool
	Error   string
	Took    time.Duration
	Output  []byte
}

// Report is everything a test VM reported.
type Report struct {
	Release string
	Steps   []Outcome // as many as the job has
	Done    bool
	Garbage int // lines that are no records: a guest that died while writing
}

// maxLine bounds a record: the guest writes output in pieces of 32 KiB.
const maxLine = 1 << 20

// Parse reads what a machine reports on a job, and shows every record that makes
// sense to observe, if there is one. A stream cut short is no error: what is
// missing shows in the report.
func Parse(r io.Reader, job Job, observe func(Record)) (Report, error) {
	rep := Report{Steps: make([]Outcome, len(job.Steps))}
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 0, 64<<10), maxLine)
	for lines.Scan() {
		if len(bytes.TrimSpace(lines.Bytes())) == 0 {
			continue
		}
		var rec Record
		if json.Unmarshal(lines.Bytes(), &rec) != nil || !rep.add(rec) {
			rep.Garbage++
		} else if observe != nil {
			observe(rec)
		}
	}
	if err := lines.Err(); err != nil {
		return rep, fmt.Errorf("read report: %w", err)
	}
	return rep, nil
}

// add takes in one record; false if it makes no sense.
func (rep *Report) add(rec Record) bool {
	switch rec.Kind {
	case KindBoot:
		rep.Release = rec.Release
		return true
	case KindDone:
		rep.Done = true
		return true
	}
	if rec.Step < 0 || rec.Step >= len(rep.Steps) {
		return false
	}
	step := &rep.Steps[rec.Step]
	switch rec.Kind {
	case KindStart:
		step.Started = true
	case KindOutput:
		step.Output = append(step.Output, rec.Output...)
	case KindEnd:
		step.Ended = true
		step.Exit, step.Hung, step.Error, step.Took = rec.Exit, rec.Hung, rec.Error, rec.Took
	default:
		return false
	}
	return true
}
