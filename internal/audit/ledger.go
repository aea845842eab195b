package audit

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/sallyport/sallyport/internal/event"
)

// Ledger is what the lines of a directory's logs add up to, as far as they were
// read. It is a function of the logs: whoever was killed while writing them is
// counted by the next reader, and nothing is counted twice.
type Ledger struct {
	Counts event.Counts `json:"counts"`
	// Traffic is of the runs that wrote the logs, as they have reported it.
	Traffic  event.Traffic `json:"traffic"`
	Position Position      `json:"position"`
	// Unread counts lines that are no events.
	Unread uint64 `json:"unread,omitempty"`
	Live   int    `json:"-"` // logs that somebody writes to
}

// ledgerBatch is how many lines are in memory at once.
const ledgerBatch = 1000

// Update adds what the logs have more than was read.
func (l *Ledger) Update(dir string) error {
	for {
		b, err := l.Position.After(dir, ledgerBatch, time.Now())
		if err != nil {
			return err
		}
		for i := range b.Entries {
			if b.Entries[i].Err != nil {
				l.Unread++
				continue
			}
			l.Counts.Add(&b.Entries[i].Event)
		}
		l.Position, l.Live = b.Next, b.Live
		if len(b.Entries) == 0 {
			return nil
		}
	}
}

// LoadLedger reads one that Save wrote; none: an empty one.
func LoadLedger(path string) (*Ledger, error) {
	l := &Ledger{}
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return l, nil
	}
	if err == nil {
		err = json.Unmarshal(b, l)
	}
	if err != nil {
		return nil, fmt.Errorf("read ledger: %w", err)
	}
	return l, nil
}

// Save replaces the ledger at path: a reader sees the old or the new one.
func (l *Ledger) Save(path string) error { return SaveState(path, l) }

// SaveState replaces a file by v as JSON: after a crash the old or the new one
// is there.
func SaveState(path string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("save %s: %w", filepath.Base(path), err)
	}
	next := path + ".new"
	if err := os.WriteFile(next, b, 0o600); err != nil {
		return fmt.Errorf("save state: %w", err)
	}
	if err := os.Rename(next, path); err != nil {
		return fmt.Errorf("save state: %w", err)
	}
	return nil
}

// LockState takes the lock of a file until unlock is called: that of a ledger,
// or what else several processes change. If another has it, ok is false.
func LockState(path string) (unlock func(), ok bool, err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, false, fmt.Errorf("lock state: %w", err)
	}
	f, err := os.OpenFile(path+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, false, fmt.Errorf("lock state: %w", err)
	}
	if ok, err := tryLock(f); err != nil || !ok {
		f.Close()
		return nil, false, err
	}
	return func() { f.Close() }, true, nil
}
