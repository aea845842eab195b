package sallyport

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// quarantine takes files that appeared under protected names out of the way of
// the host's programs: to a directory of our own, or, from another file system,
// to a name beside their own that means nothing to anybody.
type quarantine struct {
	id, dir string
	journal *os.File
	moved   int
}

// moveRecord is a line of the journal, written before the move.
type moveRecord struct {
	From string `json:"from"`
	To   string `json:"to"`
	Rule string `json:"rule"`
}

func newQuarantine(stateDir, id string) *quarantine {
	return &quarantine{id: id, dir: filepath.Join(stateDir, "quarantine", id)}
}

func (q *quarantine) close() {
	if q.journal != nil {
		q.journal.Close()
	}
}

// take moves a file or directory, and says where to.
func (q *quarantine) take(name, rule string) (to string, err error) {
	parent, err := openReal(filepath.Dir(name))
	if err != nil {
		return "", err
	}
	defer unix.Close(parent)
	base := filepath.Base(name)
	if to, err = q.rename(parent, name, base, rule); !errors.Is(err, unix.EXDEV) {
		return to, err
	}
	to = name + ".quarantined-" + q.id
	if err := q.note(name, to, rule); err != nil {
		return "", err
	}
	if err := move(parent, base, parent, filepath.Base(to)); err != nil {
		return "", &os.LinkError{Op: "move", Old: name, New: to, Err: err}
	}
	return to, nil
}

func (q *quarantine) rename(parent int, name, base, rule string) (string, error) {
	if err := os.MkdirAll(q.dir, 0o700); err != nil {
		return "", fmt.Errorf("make quarantine: %w", err)
	}
	dir, err := openReal(q.dir)
	if err != nil {
		return "", err
	}
	defer unix.Close(dir)
	kept := fmt.Sprintf("%d-%s", q.moved, base)
	to := filepath.Join(q.dir, kept)
	if err := q.note(name, to, rule); err != nil {
		return "", err
	}
	if err := move(parent, base, dir, kept); err != nil {
		return "", &os.LinkError{Op: "move", Old: name, New: to, Err: err}
	}
	q.moved++
	return to, nil
}

// note writes a move into the journal before it is made.
func (q *quarantine) note(from, to, rule string) error {
	if err := os.MkdirAll(q.dir, 0o700); err != nil {
		return fmt.Errorf("make quarantine: %w", err)
	}
	if q.journal == nil {
		f, err := os.OpenFile(filepath.Join(q.dir, "journal.jsonl"), os.O_WRONLY|os.O_APPEND|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
		if err != nil {
			return fmt.Errorf("open quarantine's journal: %w", err)
		}
		q.journal = f
	}
	if err := errors.Join(json.NewEncoder(q.journal).Encode(moveRecord{from, to, rule}), q.journal.Sync()); err != nil {
		return fmt.Errorf("write quarantine's journal: %w", err)
	}
	return nil
}

// move renames and overwrites nothing. A directory that its owner may not write
// cannot be moved to another (rename(2)); the payload may have made it so.
func move(from int, name string, to int, as string) error {
	err := unix.Renameat2(from, name, to, as, unix.RENAME_NOREPLACE)
	if errors.Is(err, unix.EACCES) {
		if fd, openErr := unix.Openat(from, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); openErr == nil {
			chmodErr := os.Chmod(fmt.Sprintf("/proc/self/fd/%d", fd), 0o700)
			unix.Close(fd)
			if chmodErr == nil {
				err = unix.Renameat2(from, name, to, as, unix.RENAME_NOREPLACE)
			}
		}
	}
	if errors.Is(err, unix.EINVAL) { // a file system that cannot refuse to overwrite
		return unix.Renameat(from, name, to, as)
	}
	return err
}

// openReal opens a directory by a name that leads over no link: what the payload
// has put in its place must not lead the move elsewhere.
func openReal(dir string) (int, error) {
	fd, err := unix.Openat2(unix.AT_FDCWD, dir, &unix.OpenHow{Flags: unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: unix.RESOLVE_NO_SYMLINKS})
	if err != nil {
		return -1, &os.PathError{Op: "open", Path: dir, Err: err}
	}
	return fd, nil
}
