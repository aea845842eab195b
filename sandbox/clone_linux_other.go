//go:build linux && !amd64

package sandbox

import "golang.org/x/sys/unix"

// cloneSharing is clone: sharing memory takes assembly.
func (p *program) cloneSharing(flags uintptr) (uintptr, unix.Errno) { return p.clone(flags) }
