//go:build unix

package main

import (
	"errors"

	"golang.org/x/sys/unix"
)

// readable fails if a descriptor is not open for reading, and keeps it from
// every program that is started.
func readable(fd int) error {
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
	if err != nil {
		return err
	}
	if flags&unix.O_ACCMODE == unix.O_WRONLY {
		return errors.New("not open for reading")
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFIFO, unix.S_IFSOCK, unix.S_IFREG, unix.S_IFCHR:
	default: // a directory, or one of this program's own
		return errors.New("no pipe, socket or file")
	}
	unix.CloseOnExec(fd)
	return nil
}
