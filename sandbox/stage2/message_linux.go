package stage2

// Config tells stage 2 what to run and how to confine it.
type Config struct {
	Argv     RawList
	Env      RawList
	Dir      Raw
	Landlock Landlock
	Filter   []byte // see seccompFilter
	Canary   Canary
	PTY      *PTYConfig `json:",omitempty"`
}

// Message is what stage 2 says; one field is set, besides Of.
type Message struct {
	// Of is the number of the joined program that PID, Exit and Err are about; 0:
	// the payload.
	Of int `json:",omitempty"`
	// Terminal says that one comes with this message.
	Terminal bool `json:",omitempty"`
	Ready    bool `json:",omitempty"` // the canary came through; with the proxy's socket and the terminal, if one was wanted
	// Listener comes with the descriptor that answers for the filter.
	Listener *Listener `json:",omitempty"`
	PID      int       `json:",omitempty"` // of the payload, inside
	// Stopped is the signal that stopped the payload.
	Stopped int `json:",omitempty"`
	// Frozen: everything inside has stopped, as told.
	Frozen bool        `json:",omitempty"`
	Exit   *ExitStatus `json:",omitempty"`
	Err    string      `json:",omitempty"`
	Hint   string      `json:",omitempty"`
	Code   int         `json:",omitempty"` // with Err: 126, 127
}

// Listener says what kind of listener it is.
type Listener struct {
	// Killable: once a call is being looked at, only death interrupts it
	// (SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV, Linux 5.19).
	Killable bool
}

// Command is what stage 2 is told.
type Command struct {
	Go     bool `json:",omitempty"`
	Signal int  `json:",omitempty"`
	// Of is the number of the joined program that Signal is for; 0: the payload.
	Of int `json:",omitempty"`
	// Exec comes with the streams of the program to start.
	Exec *Exec `json:",omitempty"`
	// Continue says that a stopped payload goes on, in the foreground of its
	// terminal or not; with Claim it is the payload's own group that gets there.
	Continue   bool `json:",omitempty"`
	Foreground bool `json:",omitempty"`
	Claim      bool `json:",omitempty"`
	// Freeze stops everything inside; what else there is to do waits for Thaw.
	Freeze bool `json:",omitempty"`
	Thaw   bool `json:",omitempty"`
}

// Exec has another program join the payload.
type Exec struct {
	ID   int // for Of; never 0
	Argv RawList
	Env  RawList
	Dir  Raw
	PTY  *PTYConfig `json:",omitempty"`
}
