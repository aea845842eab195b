// Package keeper owns the process that keeps the kernel side of one run, as
// root, for a supervisor that is an ordinary user's: it loads and attaches the
// kernel's programs, makes the sandbox's cgroup, and sends what they record.
// It knows no policy and writes no log.
//
// Both ends are in this package: Start and Serve run as root, Attach and Client
// in the supervisor. They speak JSON over a socket pair that nobody else has.
//
// Lifetimes: a keeper lives as long as the other end of its socket is open, and
// takes everything with it: programs, maps, cgroup, and whatever still runs in
// it. If the keeper ends first, Client.Done is closed: the boundary is not whole
// any more.
package keeper

import (
	"errors"

	"github.com/sallyport/sallyport/internal/cgroup"
	"github.com/sallyport/sallyport/internal/event"
)

// Name is the first argument of a keeper's process.
const Name = "sallyport: keeper"

// Env names the environment variable that tells a supervisor of its keeper's
// socket.
const Env = "SALLYPORT_KEEPER"

// ErrUnsupported is returned on systems other than Linux.
var ErrUnsupported = errors.New("keeper: this system has no such programs")

// Rules are what differs between sandboxes.
type Rules struct {
	AnyUnix    bool `json:"any_unix,omitempty"`   // every unix socket may be reached
	Supervised bool `json:"supervised,omitempty"` // the supervisor records what seccomp refuses
	// Limits bound what the sandbox may use.
	Limits cgroup.Limits `json:"limits,omitzero"`
	// Canary is a path: see loader.Rules.
	Canary string `json:"canary,omitempty"`
}

// Finding is what a self-test found out about one program.
type Finding struct {
	Program string     `json:"program"`
	Purpose string     `json:"purpose"`
	Tier    event.Tier `json:"tier"` // that needs it, if any
	State   string     `json:"state"`
	Err     string     `json:"err,omitempty"`
}

// Hello is a keeper's first message.
type Hello struct {
	Findings []Finding  `json:"findings,omitempty"`
	Tier     event.Tier `json:"tier"`
	// Less says why it is not tier lsm.
	Less string `json:"less,omitempty"`
	// Err says why there is no tier; empty: all that is needed works.
	Err string `json:"err,omitempty"`
}

// Record is a denial that the kernel's programs recorded.
type Record struct {
	Event event.Event `json:"event"`
	Call  string      `json:"call,omitempty"`
	TID   int         `json:"tid,omitempty"`
}

// Connection is one whose process is asked for, as seen from inside.
type Connection struct {
	UDP  bool   `json:"udp,omitempty"`
	From string `json:"from"` // address:port
	To   string `json:"to,omitempty"`
}

// Who is a process and its ancestors, nearest first.
type Who struct {
	Process   *event.Process  `json:"process,omitempty"`
	Ancestors []event.Process `json:"ancestors,omitempty"`
}

// What a supervisor asks for.
const (
	opPlace  = "place" // one descriptor: of the process
	opStart  = "start" // one descriptor: of the sandbox's root folder
	opByPID  = "pid"   // who is this process now?
	opByConn = "conn"  // who made this connection?
	opFlush  = "flush" // answered when everything until now was sent
	opEnd    = "end"   // answered when nothing is left
)

type request struct {
	ID    uint64      `json:"id"`
	Op    string      `json:"op"`
	PID   int         `json:"pid,omitempty"`
	Rules *Rules      `json:"rules,omitempty"`
	Conn  *Connection `json:"conn,omitempty"`
}

// message is one of: hello, reply to a request, record, loss.
type message struct {
	Hello  *Hello  `json:"hello,omitempty"`
	Reply  uint64  `json:"reply,omitempty"`
	Err    string  `json:"err,omitempty"`
	Who    *Who    `json:"who,omitempty"`
	Record *Record `json:"record,omitempty"`
	Lost   uint64  `json:"lost,omitempty"`
	Op     string  `json:"op,omitempty"` // of what was lost
}
