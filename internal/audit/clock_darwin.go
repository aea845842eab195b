package audit

import "golang.org/x/sys/unix"

// bootClock counts through sleep on macOS (clock_gettime(3)).
const bootClock = unix.CLOCK_MONOTONIC
