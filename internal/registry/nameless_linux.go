package registry

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// nameless gives the file a name when it is whole (O_TMPFILE, open(2)): a crash
// before leaves nothing. Not every file system can, and it takes a /proc.
func (r *Registration) nameless(data []byte) error {
	f, err := os.OpenFile(r.entry.dir, unix.O_TMPFILE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	if err = lockAndWrite(f, data); err == nil {
		err = unix.Linkat(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", f.Fd()), unix.AT_FDCWD, r.entry.path(), unix.AT_SYMLINK_FOLLOW)
	}
	if err != nil {
		f.Close()
		return err
	}
	r.file = f
	return nil
}
