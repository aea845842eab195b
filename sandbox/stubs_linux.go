package sandbox

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/internal/plan"
)

// Stubs are placeholders on the host that a run has made, and the journal that
// was written before them: it is locked (flock(2)) while the run lives, so that
// a later run can tell a crashed one and clean up after it.
type Stubs struct {
	journal *os.File
	stubs   []plan.Stub
}

// MakeStubs makes placeholders, journalled in dir under the run's id. What
// exists by now is left alone.
func MakeStubs(dir, id string, stubs []plan.Stub) (*Stubs, error) {
	if len(stubs) == 0 {
		return &Stubs{}, nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make journal directory: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(dir, id+".json"), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, fmt.Errorf("make journal: %w", err)
	}
	s := &Stubs{journal: f}
	for _, stub := range stubs {
		if _, err := os.Lstat(stub.Path); errors.Is(err, fs.ErrNotExist) {
			s.stubs = append(s.stubs, stub)
		}
	}
	if err := s.write(); err != nil {
		return nil, errors.Join(err, s.Remove())
	}
	for _, stub := range s.stubs {
		if err := makeStub(stub); err != nil {
			return nil, errors.Join(fmt.Errorf("make placeholder for protected path: %w", err), s.Remove())
		}
	}
	return s, nil
}

func (s *Stubs) write() error {
	if err := unix.Flock(int(s.journal.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return fmt.Errorf("lock journal: %w", err)
	}
	if err := json.NewEncoder(s.journal).Encode(s.stubs); err != nil {
		return fmt.Errorf("write journal: %w", err)
	}
	if err := s.journal.Sync(); err != nil {
		return fmt.Errorf("write journal: %w", err)
	}
	return nil
}

func makeStub(s plan.Stub) error {
	if s.Dir {
		return os.Mkdir(s.Path, 0o755)
	}
	f, err := os.OpenFile(s.Path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if errors.Is(err, fs.ErrExist) {
		return nil // somebody was faster: the mount covers theirs
	}
	if err != nil {
		return err
	}
	_, err = f.WriteString(s.Content)
	return errors.Join(err, f.Close())
}

// Remove takes the placeholders away, and the journal when none is left.
func (s *Stubs) Remove() error {
	if s == nil || s.journal == nil {
		return nil
	}
	err := removeStubs(s.stubs)
	if err == nil {
		err = os.Remove(s.journal.Name())
	}
	s.journal.Close()
	s.journal = nil
	return err
}

// removeStubs removes what is still as it was made, the deepest first.
func removeStubs(stubs []plan.Stub) error {
	var errs []error
	for i := len(stubs) - 1; i >= 0; i-- {
		s := stubs[i]
		fi, err := os.Lstat(s.Path)
		if err != nil || fi.IsDir() != s.Dir {
			continue
		}
		if !s.Dir && !sameContent(s.Path, fi, s.Content) {
			continue // the user has put it to use
		}
		// ENOTEMPTY: likewise.
		if err := os.Remove(s.Path); err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ENOTEMPTY) {
			errs = append(errs, fmt.Errorf("remove placeholder: %w", err))
		}
	}
	return errors.Join(errs...)
}

func sameContent(path string, fi fs.FileInfo, content string) bool {
	if !fi.Mode().IsRegular() || fi.Size() != int64(len(content)) {
		return false
	}
	b, err := os.ReadFile(path)
	return err == nil && string(b) == content
}

// SweepStubs removes what crashed runs have left, and says what it removed.
func SweepStubs(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read journals: %w", err)
	}
	var removed []string
	var errs []error
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), ".json") {
			continue
		}
		paths, err := sweepJournal(filepath.Join(dir, e.Name()))
		removed = append(removed, paths...)
		errs = append(errs, err)
	}
	return removed, errors.Join(errs...)
}

func sweepJournal(path string) ([]string, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, nil // swept by somebody else
	}
	defer f.Close()
	if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil {
		return nil, nil // its run lives
	}
	var stubs []plan.Stub
	if err := json.NewDecoder(f).Decode(&stubs); err != nil {
		// The journal is whole before the first placeholder is made.
		return nil, os.Remove(path)
	}
	if err := removeStubs(stubs); err != nil {
		return nil, fmt.Errorf("clean up after a crashed run (%s): %w", path, err)
	}
	var paths []string
	for _, s := range stubs {
		paths = append(paths, s.Path)
	}
	return paths, os.Remove(path)
}
