package sandbox

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/internal/plan"
)

// Stubs are placeholders on the host that a run has made, or shares with another
// run, and the journal that was written before them: it is locked (flock(2))
// while the run lives, so that a later run can tell a crashed one and clean up
// after it. A placeholder goes with the last run whose journal names it.
type Stubs struct {
	journal *os.File
	stubs   []plan.Stub
}

// lockTimeout is for many runs that start at once on a slow machine: each holds
// the lock while it plans.
const lockTimeout = time.Minute

// LockStubs keeps other runs from making and removing placeholders while this
// one plans on what it sees and makes its own.
func LockStubs(dir string) (unlock func(), err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make journal directory: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock journals: %w", err)
	}
	// Not waited for in the kernel: a run that was stopped while it planned must
	// not stop all others.
	for end := time.Now().Add(lockTimeout); ; time.Sleep(time.Millisecond) {
		if err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err == nil {
			return func() { f.Close() }, nil
		}
		if errors.Is(err, unix.EINTR) || errors.Is(err, unix.EWOULDBLOCK) && time.Now().Before(end) {
			continue
		}
		f.Close()
		return nil, fmt.Errorf("lock journals (does another run hang?): %w", err)
	}
}

// MakeStubs makes a plan's placeholders, journalled in dir under the run's id,
// and takes those out of the plan that the user may not make. What exists by
// now is left alone. The caller holds LockStubs.
func MakeStubs(dir, id string, p *plan.Plan) (*Stubs, error) {
	stubs := shared(liveStubs(dir, id), p)
	for _, stub := range p.Stubs {
		if _, err := os.Lstat(stub.Path); errors.Is(err, fs.ErrNotExist) {
			stubs = append(stubs, stub)
		}
	}
	if len(stubs) == 0 {
		return &Stubs{}, nil
	}
	f, err := os.OpenFile(filepath.Join(dir, id+".json"), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, fmt.Errorf("make journal: %w", err)
	}
	s := &Stubs{journal: f, stubs: stubs}
	if err := s.write(); err != nil {
		return nil, errors.Join(err, s.remove())
	}
	var impossible []string
	for _, stub := range stubs {
		err := makeStub(stub)
		switch {
		case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM), errors.Is(err, unix.EROFS):
			impossible = append(impossible, stub.Path)
		case errors.Is(err, fs.ErrNotExist) && slices.ContainsFunc(impossible, func(dir string) bool { return strings.HasPrefix(stub.Path, dir+"/") }):
			impossible = append(impossible, stub.Path)
		case err != nil:
			return nil, errors.Join(fmt.Errorf("make placeholder for protected path: %w", err), s.remove())
		}
	}
	p.Without(impossible)
	return s, nil
}

// shared picks the placeholders of other runs that this plan stands on, with
// the directories that lead to them.
func shared(live []plan.Stub, p *plan.Plan) []plan.Stub {
	if len(live) == 0 {
		return nil
	}
	stands := map[string]bool{}
	for _, m := range p.Mounts {
		for dir := m.Path; dir != "/" && !stands[dir]; dir = filepath.Dir(dir) {
			stands[dir] = true
		}
	}
	return slices.DeleteFunc(live, func(s plan.Stub) bool { return !stands[s.Path] })
}

// liveStubs lists, each once, what the journals of other living runs name.
func liveStubs(dir, id string) []plan.Stub {
	entries, _ := os.ReadDir(dir) // none: no other runs
	var out []plan.Stub
	seen := map[string]bool{}
	for _, e := range entries {
		if e.Name() == id+".json" || !strings.HasSuffix(e.Name(), ".json") {
			continue
		}
		f, err := os.Open(filepath.Join(dir, e.Name()))
		if err != nil {
			continue // just removed
		}
		var stubs rawStubs
		if alive(f) && json.NewDecoder(f).Decode(&stubs) == nil {
			for _, s := range stubs {
				if !seen[s.Path] {
					seen[s.Path] = true
					out = append(out, s)
				}
			}
		}
		f.Close()
	}
	return out
}

// alive reports whether the run that wrote a journal holds its lock.
func alive(journal *os.File) bool {
	return unix.Flock(int(journal.Fd()), unix.LOCK_SH|unix.LOCK_NB) != nil
}

func (s *Stubs) write() error {
	if err := unix.Flock(int(s.journal.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return fmt.Errorf("lock journal: %w", err)
	}
	if err := json.NewEncoder(s.journal).Encode(rawStubs(s.stubs)); err != nil {
		return fmt.Errorf("write journal: %w", err)
	}
	if err := s.journal.Sync(); err != nil {
		return fmt.Errorf("write journal: %w", err)
	}
	return nil
}

func makeStub(s plan.Stub) error {
	if s.Dir {
		if err := os.Mkdir(s.Path, 0o755); !errors.Is(err, fs.ErrExist) {
			return err
		}
		return nil
	}
	err := makeWhole(s)
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EISDIR) { // no O_TMPFILE here
		err = makeInPlace(s)
	}
	if errors.Is(err, fs.ErrExist) {
		return nil // somebody was faster: the mount covers theirs
	}
	return err
}

// makeWhole makes a placeholder with its content at once (O_TMPFILE, open(2)):
// killed half-way, it leaves no empty file that the host's programs stumble
// over.
func makeWhole(s plan.Stub) error {
	fd, err := unix.Open(filepath.Dir(s.Path), unix.O_TMPFILE|unix.O_WRONLY|unix.O_CLOEXEC, 0o644)
	if err != nil {
		return &fs.PathError{Op: "make", Path: s.Path, Err: err}
	}
	f := os.NewFile(uintptr(fd), s.Path)
	defer f.Close()
	if _, err := f.WriteString(s.Content); err != nil {
		return err
	}
	err = unix.Linkat(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", fd), unix.AT_FDCWD, s.Path, unix.AT_SYMLINK_FOLLOW)
	if err != nil {
		return &fs.PathError{Op: "make", Path: s.Path, Err: err}
	}
	return nil
}

func makeInPlace(s plan.Stub) error {
	f, err := os.OpenFile(s.Path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = f.WriteString(s.Content)
	return errors.Join(err, f.Close())
}

// Remove takes the placeholders away that no other run stands on, and the
// journal when none is left.
func (s *Stubs) Remove() error {
	if s == nil || s.journal == nil {
		return nil
	}
	unlock, err := LockStubs(filepath.Dir(s.journal.Name()))
	if err != nil {
		return err
	}
	defer unlock()
	return s.remove()
}

func (s *Stubs) remove() error {
	name := s.journal.Name()
	err := removeUnshared(filepath.Dir(name), strings.TrimSuffix(filepath.Base(name), ".json"), s.stubs)
	if err == nil {
		err = os.Remove(name)
	}
	s.journal.Close()
	s.journal = nil
	return err
}

func removeUnshared(dir, id string, stubs []plan.Stub) error {
	others := liveStubs(dir, id)
	return removeStubs(slices.DeleteFunc(slices.Clone(stubs), func(s plan.Stub) bool {
		return slices.ContainsFunc(others, func(o plan.Stub) bool { return o.Path == s.Path })
	}))
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

// sameContent reports whether a file is as it was made, or as a run left it that
// was killed while it made it.
func sameContent(path string, fi fs.FileInfo, content string) bool {
	if !fi.Mode().IsRegular() || fi.Size() > int64(len(content)) {
		return false
	}
	b, err := os.ReadFile(path)
	return err == nil && strings.HasPrefix(content, string(b))
}

// SweepStubs removes what crashed runs have left, and says what it removed. The
// caller holds LockStubs.
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
	if alive(f) {
		return nil, nil
	}
	var stubs rawStubs
	if err := json.NewDecoder(f).Decode(&stubs); err != nil {
		// The journal is whole before the first placeholder is made.
		return nil, os.Remove(path)
	}
	if err := removeUnshared(filepath.Dir(path), strings.TrimSuffix(filepath.Base(path), ".json"), stubs); err != nil {
		return nil, fmt.Errorf("clean up after a crashed run (%s): %w", path, err)
	}
	var paths []string
	for _, s := range stubs {
		paths = append(paths, s.Path)
	}
	return paths, os.Remove(path)
}
