package proxy

import "time"

// Limits bound what one sandbox can hold of the supervisor. A zero field takes
// the default.
type Limits struct {
	// MaxConns is the number of connections open at once; more are reset, and
	// recorded. It is lowered where descriptors are scarce: each connection needs
	// two, and a pair for a pipe while it moves bulk data.
	MaxConns int
	// MaxDNSConns is the same for DNS over TCP.
	MaxDNSConns int
	// MaxHead bounds a request's or response's head, MaxHello a TLS ClientHello
	// with its record headers, both in bytes.
	MaxHead, MaxHello int
	// Memory bounds, in bytes, what is held of heads, hellos and bodies beyond one
	// page a connection.
	Memory int
	// MaxNames bounds the names that get an address of their own.
	MaxNames int

	// HelloTimeout is for a ClientHello or a SOCKS handshake to be complete,
	// HeadTimeout for a request head once it has begun.
	HelloTimeout, HeadTimeout time.Duration
	// KeepAlive is how long a client may wait between two requests.
	KeepAlive time.Duration
	// ResolveTimeout and DialTimeout bound the way out.
	ResolveTimeout, DialTimeout time.Duration
	// ResolveFor is how long a name that was looked up is not looked up again.
	ResolveFor time.Duration
	// Idle ends a connection that has moved no byte for so long.
	Idle time.Duration
	// Total ends a connection however busy it is; zero means never.
	Total time.Duration
	// AllowQuiet is how long after the last of its connections the event of an
	// allowed (process, host, port) is emitted.
	AllowQuiet time.Duration
}

const (
	defaultMaxConns    = 16384
	defaultMaxDNSConns = 128
	defaultMaxHead     = 64 << 10
	defaultMaxHello    = 64 << 10
	defaultMemory      = 32 << 20
	// The fake range has 131 072 addresses; the half of it is plenty of names.
	defaultMaxNames = 65536
	// fdsPerConn: client, upstream, and now and then two pipes.
	fdsPerConn  = 4
	fdsReserved = 64
)

// withDefaults fills the zero fields. descriptors is how many the process may
// have open.
func (l Limits) withDefaults(descriptors int) Limits {
	set := func(v *int, def int) {
		if *v <= 0 {
			*v = def
		}
	}
	set(&l.MaxConns, defaultMaxConns)
	set(&l.MaxDNSConns, defaultMaxDNSConns)
	set(&l.MaxHead, defaultMaxHead)
	set(&l.MaxHello, defaultMaxHello)
	set(&l.Memory, defaultMemory)
	set(&l.MaxNames, defaultMaxNames)
	l.MaxNames = min(l.MaxNames, defaultMaxNames)
	l.MaxConns = min(l.MaxConns, max(1, (descriptors-fdsReserved)/fdsPerConn))

	wait := func(v *time.Duration, def time.Duration) {
		if *v <= 0 {
			*v = def
		}
	}
	wait(&l.HelloTimeout, 5*time.Second)
	wait(&l.HeadTimeout, 10*time.Second)
	wait(&l.KeepAlive, time.Minute)
	wait(&l.ResolveTimeout, 5*time.Second)
	wait(&l.DialTimeout, 10*time.Second)
	wait(&l.ResolveFor, time.Second)
	wait(&l.Idle, time.Hour)
	wait(&l.AllowQuiet, 5*time.Second)
	return l
}
