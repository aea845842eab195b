package audit

import (
	"crypto/rand"
	"os"
)

// reserveSize is room for the record of a loss, in whole blocks of the file
// systems there are.
const reserveSize = 16 << 10

// reserve is disk space kept back: a file without a name, so that nothing of
// it stays behind. Its bytes are random because a compressing file system
// would keep no room for zeros.
type reserve struct{ file *os.File }

func makeReserve(dir string) (*reserve, error) {
	f, err := os.CreateTemp(dir, ".reserve-*")
	if err != nil {
		return nil, err
	}
	r := &reserve{f}
	err = os.Remove(f.Name())
	if err == nil {
		b := make([]byte, reserveSize)
		_, _ = rand.Read(b) // never fails (crypto/rand)
		_, err = f.Write(b)
	}
	if err != nil {
		r.release()
		return nil, err
	}
	return r, nil
}

// release gives the space back to the file system.
func (r *reserve) release() {
	if r != nil && r.file != nil {
		_ = r.file.Close()
		r.file = nil
	}
}
