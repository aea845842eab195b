// Package report holds what travels between the harness and a test VM: the job
// on the way in, a stream of records on the way out, and what the records add up
// to. A step counts as passed only if its end was reported and says so.
package report

import "time"

// Step is one program that a job runs.
type Step struct {
	Name     string        `json:"name"`
	Dir      string        `json:"dir,omitempty"` // default: /
	Argv     []string      `json:"argv"`
	Env      []string      `json:"env,omitempty"`
	User     bool          `json:"user,omitempty"`   // as an ordinary user, not as root
	Tests    bool          `json:"tests,omitempty"`  // a Go test binary: its output is read
	On       Place         `json:"on,omitempty"`     // where it is run
	Kernel   string        `json:"kernel,omitempty"` // the only one it is run on; empty: any
	Deadline time.Duration `json:"deadline"`
}

// Place is where steps are run. The zero value is everywhere.
type Place string

const (
	Plain   Place = "plain"   // where there is no service manager
	Session Place = "session" // where there is one
)

// Holds reports whether a machine, with a service manager or not, is such a place.
func (p Place) Holds(session bool) bool { return p == "" || (p == Session) == session }

// Job is what a test VM does before it goes away.
type Job struct {
	Machine  string   `json:"machine"`
	Env      []string `json:"env,omitempty"`
	Systemd  bool     `json:"systemd,omitempty"` // steps are units of a service manager
	UserWrap []string `json:"user_wrap,omitempty"`
	Steps    []Step   `json:"steps"`
}

// Deadline is how long the steps may take together.
func (j Job) Deadline() time.Duration {
	var sum time.Duration
	for _, s := range j.Steps {
		sum += s.Deadline
	}
	return sum
}
