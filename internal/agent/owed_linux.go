package agent

import (
	"encoding/binary"
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// owed counts attempts that were read from the kernel and are in no file yet. It
// lies in memory of a file, which stays when this process is killed: its
// successor then knows how many were lost.
type owed struct {
	mu  sync.Mutex
	mem []byte
}

func openOwed(path string) (*owed, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open count of what is owed: %w", err)
	}
	defer f.Close()
	if err := f.Truncate(8); err != nil {
		return nil, fmt.Errorf("open count of what is owed: %w", err)
	}
	mem, err := unix.Mmap(int(f.Fd()), 0, 8, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("open count of what is owed: %w", err)
	}
	return &owed{mem: mem}, nil
}

// add changes the count by n, which may be negative, and gives the new one.
func (o *owed) add(n int64) uint64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	v := binary.NativeEndian.Uint64(o.mem) + uint64(n)
	binary.NativeEndian.PutUint64(o.mem, v)
	return v
}

func (o *owed) close() error {
	if o == nil {
		return nil
	}
	return unix.Munmap(o.mem)
}
