package export

import "github.com/sallyport/sallyport/internal/event"

// Job is what a run asks of the program that carries its record on: one JSON
// value. Traffic follows, one event.Traffic a line, each what is new since the
// one before; the end of the input is the end of the run, whose log is whole by
// then.
type Job struct {
	Logs     string     `json:"logs"`
	OTLP     string     `json:"otlp,omitempty"`     // a collector's URL
	Syslog   string     `json:"syslog,omitempty"`   // a server's URL
	Textfile string     `json:"textfile,omitempty"` // node_exporter's directory
	Version  string     `json:"version"`
	Tier     event.Tier `json:"tier"`
}

// Warning is what that program has to say: one JSON value each.
type Warning struct {
	Text string `json:"warning"`
}
