package audit

import (
	"os"
	"syscall"
)

// unnamed makes a file that never has a name (O_TMPFILE, open(2), Linux 3.11):
// there is no moment at which a crash would leave it.
func unnamed(dir string) (*os.File, error) {
	const tmpfile = 0x400000 | syscall.O_DIRECTORY // asm-generic/fcntl.h
	return os.OpenFile(dir, tmpfile|os.O_RDWR, 0o600)
}
