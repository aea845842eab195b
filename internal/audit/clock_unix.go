//go:build linux || darwin

package audit

import "golang.org/x/sys/unix"

// mono gives the time since boot in nanoseconds.
func mono() int64 {
	var ts unix.Timespec
	if unix.ClockGettime(bootClock, &ts) != nil {
		return 0
	}
	return ts.Nano()
}
