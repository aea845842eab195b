package audit

import (
	"crypto/rand"
	"os"
	"path/filepath"
	"time"
)

// reserveSize is room for the record of a loss, in whole blocks of the file
// systems there are.
const reserveSize = 16 << 10

const reservePrefix = ".reserve-"

// reserve is disk space kept back: a file without a name, so that nothing of
// it stays behind. Its bytes are random because a compressing file system
// would keep no room for zeros.
type reserve struct{ file *os.File }

func makeReserve(dir string) (*reserve, error) {
	f, err := unnamed(dir)
	if err != nil {
		if f, err = briefly(dir); err != nil {
			return nil, err
		}
	}
	r := &reserve{f}
	b := make([]byte, reserveSize)
	_, _ = rand.Read(b) // never fails (crypto/rand)
	if _, err = f.Write(b); err != nil {
		r.release()
		return nil, err
	}
	return r, nil
}

// briefly is for a file system that makes no file without a name. Who is killed
// in between leaves it; the next one removes it.
func briefly(dir string) (*os.File, error) {
	left, _ := filepath.Glob(filepath.Join(dir, reservePrefix+"*")) // none: nothing to remove
	for _, name := range left {
		if fi, err := os.Lstat(name); err == nil && time.Since(fi.ModTime()) > time.Minute {
			os.Remove(name)
		}
	}
	f, err := os.CreateTemp(dir, reservePrefix+"*")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(f.Name()); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// release gives the space back to the file system.
func (r *reserve) release() {
	if r != nil && r.file != nil {
		_ = r.file.Close()
		r.file = nil
	}
}
