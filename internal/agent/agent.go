// Package agent owns the machine's side of sandboxes: a daemon that runs as root
// and does for ordinary users what takes privilege, and the client by which a run
// asks for it. The daemon holds the kernel's programs (package loader), makes
// cgroups, puts a run's first process into one, and writes the machine's audit
// log.
//
// It never takes a client's word for what can be found out: who asks is what the
// kernel says of each packet, a process is registered by its parent alone, and
// the policy is parsed here. It never handles a sandbox's traffic: the proxy
// stays in the user's process.
//
// Lifetimes: programs and cgroups outlive the daemon, killed or ended; the next
// one takes them over by what is in its state directory. A sandbox ends when the
// process that registered it has ended, or says so.
package agent

import (
	"errors"
	"slices"
	"time"

	"github.com/sallyport/sallyport/internal/event"
	"github.com/sallyport/sallyport/internal/plan"
	"github.com/sallyport/sallyport/internal/policy"
)

// Where the agent of a machine is, unless told otherwise.
const (
	DefaultSocket   = "/run/sallyport/agent.sock"
	DefaultStateDir = "/var/lib/sallyport"
	// SocketVariable of the environment names the socket; empty: no agent.
	SocketVariable = "SALLYPORT_AGENT"
)

// SocketPath is where a run looks for the agent; empty: it shall not.
func SocketPath(lookup func(string) (string, bool)) string {
	if path, set := lookup(SocketVariable); set {
		return path
	}
	return DefaultSocket
}

// version of the protocol. Either side refuses another.
const version = 2

// ErrRefused marks what the agent has refused; its text says why.
var ErrRefused = errors.New("the agent refused")

// Refusal is an answer of the agent.
type Refusal struct {
	Text string `json:"text"`
	Hint string `json:"hint,omitempty"`
}

func (r *Refusal) Error() string { return "the agent refused: " + r.Text }
func (r *Refusal) Unwrap() error { return ErrRefused }

// hintAgain is the hint of a refusal that may be none the next time.
const hintAgain = "try again"

func refuse(hint, text string) *Refusal { return &Refusal{text, hint} }

// Recorder is what sees system calls refused.
type Recorder string

// The recorders.
const (
	RecorderAuto  Recorder = "auto"     // fexit where that misses nothing
	RecorderFexit Recorder = "fexit"    // programs at the functions that refuse
	RecorderExit  Recorder = "sys_exit" // one that every system call of the machine passes
)

// Status is what an agent says of itself.
type Status struct {
	Version   string     `json:"version"` // of the program
	Tier      event.Tier `json:"tier"`
	Less      string     `json:"less,omitempty"` // why it is not a higher one
	Recorder  Recorder   `json:"recorder,omitempty"`
	Otherwise string     `json:"otherwise,omitempty"` // why it is not the recorder that is wanted
	Sandboxes int        `json:"sandboxes"`           // of the caller
	Limit     int        `json:"limit"`
}

// Registration is what a run tells the agent of itself.
type Registration struct {
	// ID is the sandbox's, 12 hexadecimal digits; the agent refuses one that there
	// is.
	ID   string `json:"id"`
	Name string `json:"name,omitempty"`
	// PID is of stage 1, a child of the caller in namespaces of its own.
	PID   int          `json:"pid"`
	Env   policy.Env   `json:"env"`
	Files []PolicyFile `json:"files,omitempty"`
	Flags policy.Flags `json:"flags,omitempty"`
	// Absent are paths that the caller wants kept from being made, beside what the
	// policy says: it knows the files. They refuse things to its own sandbox alone.
	Absent []plan.Absent `json:"absent,omitempty"`
	// Canary: the sandbox provokes a refusal upon loader.CanaryPath(ID) before
	// Start, which fails if it was not seen.
	Canary bool `json:"canary,omitempty"`
}

// PolicyFile is a policy's bytes; see policy.Source.
type PolicyFile struct {
	Name string `json:"name"`
	Data []byte `json:"data"`
	Dir  string `json:"dir,omitempty"`
	Path string `json:"path,omitempty"`
	// Layer is what the run says of the file. It cannot gain by lying: a policy of
	// its own could say the same.
	Layer policy.Layer `json:"layer,omitempty"`
}

// Update is a policy that takes the place of a sandbox's in what may change while
// it runs: its rules for hosts. The kernel's side has none of these, so for the
// agent it is a policy that must be good, and another name for what follows in
// the record.
type Update struct {
	Files []PolicyFile `json:"files,omitempty"`
	Flags policy.Flags `json:"flags,omitempty"`
}

// parse makes the policy of what was sent, below the ceiling.
func (r *Registration) parse(ceiling []policy.Source) (*policy.Policy, error) {
	sources := slices.Clone(ceiling)
	for _, f := range r.Files {
		sources = append(sources, policy.Source(f))
	}
	return policy.Make(r.Env, sources, r.Flags)
}

// Ended is what there is to say of a sandbox at its end.
type Ended struct {
	// Lost counts what happened during its time, in any sandbox of the machine,
	// of which there is no record.
	Lost uint64 `json:"lost,omitempty"`
	// Missed counts events that are in the log but were not handed to the caller.
	Missed uint64 `json:"missed,omitempty"`
}

// Limits are what one user may take. The zero value is the default.
type Limits struct {
	Sandboxes   int     // 64
	EventsRate  float64 // a second, in the long run: 200
	EventsBurst float64 // 20 000
	LogBytes    int64   // of the user's logs in all: 1 GiB
	Connections int     // besides those of sandboxes: 32
}

func (l *Limits) setDefaults() {
	if l.Sandboxes == 0 {
		l.Sandboxes = 64
	}
	if l.EventsRate == 0 {
		l.EventsRate = 200
	}
	if l.EventsBurst == 0 {
		l.EventsBurst = 20_000
	}
	if l.LogBytes == 0 {
		l.LogBytes = 1 << 30
	}
	if l.Connections == 0 {
		l.Connections = 32
	}
}

// Times that bound what another process can make the agent wait for.
const (
	idleLimit    = 30 * time.Second // a connection that has registered nothing
	messageLimit = 5 * time.Second  // from a message's first packet to its last
	sendLimit    = 10 * time.Second
	lastWords    = time.Second // to send what is queued when a connection ends
	killLimit    = 5 * time.Second
	warmFor      = 60 * time.Millisecond // from a caller's first word to its registration, mostly
	warmEvery    = 4 * time.Millisecond
)
