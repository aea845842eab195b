//go:build unix

package proxy

import (
	"math"
	"syscall"
)

// maxDescriptors is how many descriptors the process may have open. The Go
// runtime has already raised the soft limit to the hard one.
func maxDescriptors() int {
	var lim syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &lim); err != nil {
		return 1024 // the kernel's own default soft limit
	}
	return int(min(lim.Cur, math.MaxInt32))
}
