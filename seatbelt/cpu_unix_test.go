//go:build unix

package seatbelt

import (
	"syscall"
	"testing"
	"time"
)

// cpuTime is what this process has used of a processor: unlike the clock it
// tells the same on a busy machine.
func cpuTime(t testing.TB) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
