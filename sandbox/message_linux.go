package sandbox

import "github.com/sallyport/sallyport/internal/plan"

// launch is what stage 1 executes once the plan is made.
type launch struct {
	Bwrap string
}

// stage1Report comes from stage 1 with the sockets it made, in the order of
// netSockets.files.
type stage1Report struct {
	Err  string `json:",omitempty"`
	Hint string `json:",omitempty"`
	// NoPing says why an ICMP echo is refused without a record.
	NoPing string `json:",omitempty"`
}

// initConfig tells stage 2 what to run and how to confine it.
type initConfig struct {
	Argv     []string
	Env      []string
	Dir      string
	Landlock plan.Landlock
	Seccomp  plan.Seccomp
	Canary   Canary
	PTY      *ptyConfig `json:",omitempty"`
}

// initMessage is what stage 2 says; one field is set.
type initMessage struct {
	Ready bool `json:",omitempty"` // the canary came through; with the proxy's socket and the terminal, if one was wanted
	// Listener comes with the descriptor that answers for the filter.
	Listener *listenerMessage `json:",omitempty"`
	PID      int              `json:",omitempty"` // of the payload, inside
	// Stopped is the signal that stopped the payload.
	Stopped int         `json:",omitempty"`
	Exit    *ExitStatus `json:",omitempty"`
	Err     string      `json:",omitempty"`
	Hint    string      `json:",omitempty"`
	Code    int         `json:",omitempty"` // with Err: 126, 127
}

// listenerMessage says what kind of listener it is.
type listenerMessage struct {
	// Killable: once a call is being looked at, only death interrupts it
	// (SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV, Linux 5.19).
	Killable bool
}

// initCommand is what stage 2 is told.
type initCommand struct {
	Go     bool `json:",omitempty"`
	Signal int  `json:",omitempty"`
	// Continue says that a stopped payload goes on, in the foreground of its
	// terminal or not; with Claim it is the payload's own group that gets there.
	Continue   bool `json:",omitempty"`
	Foreground bool `json:",omitempty"`
	Claim      bool `json:",omitempty"`
}
