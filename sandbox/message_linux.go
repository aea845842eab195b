package sandbox

// initConfig tells stage 2 what to run and how to confine it.
type initConfig struct {
	Argv     rawList
	Env      rawList
	Dir      raw
	Landlock rawLandlock
	Filter   []byte // see seccompFilter
	Canary   Canary
	PTY      *ptyConfig `json:",omitempty"`
}

// initMessage is what stage 2 says; one field is set, besides Of.
type initMessage struct {
	// Of is the number of the joined program that PID, Exit and Err are about; 0:
	// the payload.
	Of int `json:",omitempty"`
	// Terminal says that one comes with this message.
	Terminal bool `json:",omitempty"`
	Ready    bool `json:",omitempty"` // the canary came through; with the proxy's socket and the terminal, if one was wanted
	// Listener comes with the descriptor that answers for the filter.
	Listener *listenerMessage `json:",omitempty"`
	PID      int              `json:",omitempty"` // of the payload, inside
	// Stopped is the signal that stopped the payload.
	Stopped int `json:",omitempty"`
	// Frozen: everything inside has stopped, as told.
	Frozen bool        `json:",omitempty"`
	Exit   *ExitStatus `json:",omitempty"`
	Err    string      `json:",omitempty"`
	Hint   string      `json:",omitempty"`
	Code   int         `json:",omitempty"` // with Err: 126, 127
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
	// Of is the number of the joined program that Signal is for; 0: the payload.
	Of int `json:",omitempty"`
	// Exec comes with the streams of the program to start.
	Exec *execCommand `json:",omitempty"`
	// Continue says that a stopped payload goes on, in the foreground of its
	// terminal or not; with Claim it is the payload's own group that gets there.
	Continue   bool `json:",omitempty"`
	Foreground bool `json:",omitempty"`
	Claim      bool `json:",omitempty"`
	// Freeze stops everything inside; what else there is to do waits for Thaw.
	Freeze bool `json:",omitempty"`
	Thaw   bool `json:",omitempty"`
}

// execCommand has another program join the payload.
type execCommand struct {
	ID   int // for Of; never 0
	Argv rawList
	Env  rawList
	Dir  raw
	PTY  *ptyConfig `json:",omitempty"`
}
