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
}

// initMessage is what stage 2 says; one field is set.
type initMessage struct {
	Ready bool        `json:",omitempty"` // the canary came through
	PID   int         `json:",omitempty"` // of the payload, inside
	Exit  *ExitStatus `json:",omitempty"`
	Err   string      `json:",omitempty"`
	Hint  string      `json:",omitempty"`
	Code  int         `json:",omitempty"` // with Err: 126, 127
}

// initCommand is what stage 2 is told.
type initCommand struct {
	Go     bool `json:",omitempty"`
	Signal int  `json:",omitempty"`
}
