package ask

import "golang.org/x/sys/unix"

// setTermiosFlush throws away what was typed before (TCSAFLUSH).
const (
	getTermios      = unix.TIOCGETA
	setTermiosFlush = unix.TIOCSETAF
)
