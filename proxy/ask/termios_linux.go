package ask

import "golang.org/x/sys/unix"

// setTermiosFlush throws away what was typed before (TCSAFLUSH).
const (
	getTermios      = unix.TCGETS
	setTermiosFlush = unix.TCSETSF
)
