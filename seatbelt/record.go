package seatbelt

import "time"

// Reporter is who wrote a record of the log. The zero value is not to be
// believed.
type Reporter uint8

const (
	SomeProcess Reporter = iota
	Kernel
	Sandboxd // reports what Mach services refused, with the kernel's words
)

func (r Reporter) String() string {
	return [...]string{"some process", "the kernel", "sandboxd"}[r]
}

// Record is one entry of the log, whatever the style it was printed in.
type Record struct {
	Time     time.Time
	Mach     uint64 // machTimestamp, which orders the records of a boot; 0: not printed
	Reporter Reporter
	Text     string // eventMessage
	// Lost is how many entries the log says it has dropped here.
	Lost uint64
}

// Paths of the two reporters in processImagePath.
const (
	kernelPath   = "/kernel"
	sandboxdPath = "/usr/libexec/sandboxd"
)
