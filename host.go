package sallyport

import (
	"crypto/rand"
	"encoding/hex"
	"io/fs"
	"os"
)

// hostFS is the running system's file system, as a plan looks at it.
type hostFS struct{}

func (hostFS) Lstat(name string) (fs.FileInfo, error)     { return os.Lstat(name) }
func (hostFS) ReadDir(name string) ([]fs.DirEntry, error) { return os.ReadDir(name) }
func (hostFS) ReadLink(name string) (string, error)       { return os.Readlink(name) }

// newID names a run: 48 random bits in hex.
func newID() string {
	var b [6]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	return hex.EncodeToString(b[:])
}
