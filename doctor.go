package sallyport

import "github.com/sallyport/sallyport/internal/event"

// State says how bad a finding is.
type State string

const (
	StateOK      State = "ok"
	StateLess    State = "less"    // a run starts, but enforces or records less
	StateMissing State = "missing" // no run can start
)

// Finding is one thing that a run needs or can use.
type Finding struct {
	Name  string `json:"name"`
	State State  `json:"state"`
	Found string `json:"found"`
	Cure  string `json:"cure,omitempty"` // what to do about it
}

// Diagnosis is what Doctor found.
type Diagnosis struct {
	Tier     event.Tier `json:"tier"`
	Findings []Finding  `json:"findings"`
}

// CanRun reports whether Run can start a command here.
func (d Diagnosis) CanRun() bool {
	for _, f := range d.Findings {
		if f.State == StateMissing {
			return false
		}
	}
	return true
}

func (d *Diagnosis) add(name string, state State, found, cure string) {
	if state == StateOK {
		cure = ""
	}
	d.Findings = append(d.Findings, Finding{name, state, found, cure})
}
