package sallyport

import (
	"crypto/rand"
	"encoding/hex"
	"io"
	"io/fs"
	"math"
	"os"

	"github.com/sallyport/sallyport/internal/plan"
)

// hostFS is the running system's file system, as a plan looks at it.
type hostFS struct{}

func (hostFS) Lstat(name string) (fs.FileInfo, error) { return os.Lstat(name) }
func (hostFS) ReadLink(name string) (string, error)   { return os.Readlink(name) }

func (hostFS) ReadDir(name string, most int) ([]fs.DirEntry, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if most == math.MaxInt {
		return f.ReadDir(-1)
	}
	entries, err := f.ReadDir(most + 1)
	switch {
	case len(entries) > most:
		return nil, plan.ErrMany
	case err == io.EOF:
		return nil, nil
	}
	return entries, err
}

// newID names a run: 48 random bits in hex.
func newID() string {
	var b [6]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	return hex.EncodeToString(b[:])
}
