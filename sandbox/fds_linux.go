package sandbox

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// maxFD is close_range(2)'s "all that follow".
const maxFD = 1<<32 - 1

// memfile makes an empty anonymous file that is inherited by number. It is
// written with WriteAt, so that the reader, which shares the offset, starts at
// its beginning.
func memfile(name string) (*os.File, error) {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make memfd %s: %w", name, err)
	}
	return os.NewFile(uintptr(fd), name), nil
}

// socketpair makes a connected pair of unix sockets.
func socketpair(kind int) (ours, theirs *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, kind|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("make socketpair: %w", err)
	}
	return os.NewFile(uintptr(fds[0]), "control"), os.NewFile(uintptr(fds[1]), "control"), nil
}
