//go:build linux || darwin

package sallyport

import (
	"os"

	"golang.org/x/sys/unix"
)

// lockDir waits until nobody else has the lock of a directory (flock(2)).
func lockDir(dir string) (unlock func(), err error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	for {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX)
		if err == nil {
			return func() { f.Close() }, nil
		}
		if err != unix.EINTR {
			f.Close()
			return nil, &os.PathError{Op: "lock", Path: dir, Err: err}
		}
	}
}
