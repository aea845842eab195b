//go:build linux || darwin

package registry

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Registration is a running sandbox's own entry.
type Registration struct {
	entry Entry
	file  *os.File          // locked
	sock  *net.UnixListener // nil: its directory's name is too long for a socket
	made  []string          // its files, newest first
}

// Register makes an entry in the first directory in which that can be done, and
// removes the stale ones there.
//
// An entry that has no start yet is not listed: see Update.
func Register(dirs []string, e Entry) (*Registration, error) {
	if !validID(e.ID) {
		return nil, fmt.Errorf("list this run: %q is no id", e.ID)
	}
	errs := []error{errors.New("there is no directory for it")}
	for i, dir := range dirs {
		if i == 0 {
			errs = nil
		}
		r, err := registerIn(dir, e)
		if err == nil {
			sweep(dir, nil)
			return r, nil
		}
		errs = append(errs, err)
	}
	return nil, fmt.Errorf("list this run: %w", errors.Join(errs...))
}

func registerIn(dir string, e Entry) (*Registration, error) {
	if err := ownDir(dir); err != nil {
		return nil, err
	}
	e.dir = dir
	r := &Registration{entry: e}
	if err := r.create(); err != nil {
		r.Close()
		return nil, err
	}
	return r, nil
}

// ownDir makes a directory, unless it is somebody else's or open to others. The
// one above the last is made only in the user's own places.
func ownDir(dir string) error {
	parent := filepath.Dir(dir)
	if strings.HasPrefix(dir, "/run/user/") {
		if _, err := os.Stat(parent); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return checkDir(dir)
}

func checkDir(dir string) error {
	var st unix.Stat_t
	if err := unix.Lstat(dir, &st); err != nil {
		return &fs.PathError{Op: "look at", Path: dir, Err: err}
	}
	switch {
	case uint32(st.Mode)&unix.S_IFMT != unix.S_IFDIR:
		return fmt.Errorf("%s is not a directory", dir)
	case int(st.Uid) != os.Geteuid():
		return fmt.Errorf("%s belongs to user %d", dir, st.Uid)
	case st.Mode&0o077 != 0:
		return fmt.Errorf("%s is open to others (mode %03o)", dir, st.Mode&0o777)
	}
	return nil
}

// create makes the socket first, then the entry, which is locked before it gets
// a name that others look at.
func (r *Registration) create() error {
	data, err := r.entry.encode()
	if err != nil {
		return err
	}
	switch r.sock, err = listenAt(r.entry.socket()); {
	case err == nil:
		r.made = []string{r.entry.socket()}
	case !errors.Is(err, errTooLong):
		return err
	}
	if err = r.nameless(data); err != nil {
		err = r.renamed(data)
	}
	if err != nil {
		return err
	}
	r.made = append([]string{r.entry.path()}, r.made...)
	return nil
}

// renamed gives the file its name when it is whole; what a crash leaves under
// the other is swept a minute later.
func (r *Registration) renamed(data []byte) error {
	temp := filepath.Join(r.entry.dir, "."+r.entry.ID)
	f, err := os.OpenFile(temp, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	if err = lockAndWrite(f, data); err == nil {
		err = os.Rename(temp, r.entry.path())
	}
	if err != nil {
		f.Close()
		os.Remove(temp)
		return err
	}
	r.file = f
	return nil
}

func lockAndWrite(f *os.File, data []byte) error {
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return &fs.PathError{Op: "lock", Path: f.Name(), Err: err}
	}
	_, err := f.Write(data)
	return err
}

func (e Entry) path() string   { return filepath.Join(e.dir, e.ID+entrySuffix) }
func (e Entry) socket() string { return filepath.Join(e.dir, e.ID+socketSuffix) }

// AskSocket is where the supervisor listens for who answers its questions, if it
// has any.
func (e Entry) AskSocket() string { return filepath.Join(e.dir, e.ID+askSuffix) }

// AskSocket is where the supervisor may listen for who answers its questions.
func (r *Registration) AskSocket() string { return r.entry.AskSocket() }

// Update replaces what the entry says; the file stays, and locked.
func (r *Registration) Update(e Entry) error {
	e.dir = r.entry.dir
	data, err := e.encode()
	if err != nil {
		return err
	}
	if _, err = r.file.WriteAt(data, 0); err == nil {
		err = r.file.Truncate(int64(len(data)))
	}
	if err != nil {
		return fmt.Errorf("list this run: %w", err)
	}
	r.entry = e
	return nil
}

// Accept waits for the next client of the same user. It fails when the
// registration is closed.
func (r *Registration) Accept() (*os.File, error) {
	if r.sock == nil {
		return nil, fmt.Errorf("accept: %w", errTooLong)
	}
	for {
		conn, err := r.sock.AcceptUnix()
		switch {
		case errors.Is(err, unix.ECONNABORTED):
			continue
		case err != nil:
			return nil, fmt.Errorf("accept: %w", err)
		}
		var f *os.File
		if uid, err := peerUID(conn); err == nil && uid == os.Geteuid() {
			f, err = conn.File() // blocks, as files do
		}
		conn.Close()
		if f != nil {
			return f, nil
		}
	}
}

// Stop ends Accept and takes the entry off the list.
func (r *Registration) Stop() {
	if r.sock != nil {
		r.sock.Close() // wakes Accept
	}
	for _, name := range r.made {
		os.Remove(name)
	}
	r.made = nil
}

// Close is for when Accept has returned.
func (r *Registration) Close() {
	r.Stop()
	if r.file != nil {
		r.file.Close()
	}
}

// Dial connects to the supervisor of a sandbox.
func (e Entry) Dial() (*os.File, error) {
	f, err := dialAt(e.socket())
	if err != nil {
		return nil, fmt.Errorf("reach sandbox %s: %w", e.ID, err)
	}
	return f, nil
}

// Live reports whether the supervisor still has its entry.
func (e Entry) Live() bool {
	f, err := os.Open(e.path())
	if err != nil {
		return false
	}
	defer f.Close()
	return locked(f)
}

func locked(f *os.File) bool {
	err := unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB)
	if err == nil {
		_ = unix.Flock(int(f.Fd()), unix.LOCK_UN)
	}
	return errors.Is(err, unix.EWOULDBLOCK)
}

// List gives the running sandboxes of this host, oldest first, and removes
// stale entries. A directory that is missing or not to be trusted has none.
func List(dirs []string, here Host) []Entry {
	var out []Entry
	for _, dir := range dirs {
		for _, e := range sweep(dir, nil) {
			if e.Host == here && !e.Start.IsZero() {
				out = append(out, e)
			}
		}
	}
	slices.SortFunc(out, func(a, b Entry) int { return a.Start.Compare(b.Start) })
	return out
}

// Sweep removes the entries of sandboxes that run no more, and names the files.
// clear is called for each that has left something behind, of which only what it
// leaves is known, and says when that is gone; nil leaves such entries alone.
func Sweep(dirs []string, clear func(Entry) error) (removed []string) {
	for _, dir := range dirs {
		before, _ := filepath.Glob(filepath.Join(dir, "*")) // none: nothing to sweep
		sweep(dir, clear)
		for _, name := range before {
			if _, err := os.Lstat(name); errors.Is(err, fs.ErrNotExist) {
				removed = append(removed, name)
			}
		}
	}
	return removed
}

// sweep gives the live entries of a directory and removes the others.
func sweep(dir string, clear func(Entry) error) []Entry {
	if checkDir(dir) != nil {
		return nil
	}
	names, err := os.ReadDir(dir)
	if err != nil {
		return nil
	}
	var out []Entry
	for _, n := range names {
		id, isEntry := strings.CutSuffix(n.Name(), entrySuffix)
		if isEntry {
			if e, ok := look(dir, n.Name(), clear); ok {
				out = append(out, e)
			}
			continue
		}
		id = strings.TrimPrefix(strings.TrimSuffix(strings.TrimSuffix(id, socketSuffix), askSuffix), ".")
		if _, err := os.Lstat(filepath.Join(dir, id+entrySuffix)); errors.Is(err, fs.ErrNotExist) && validID(id) {
			removeOld(filepath.Join(dir, n.Name()))
		}
	}
	return out
}

// look reads an entry, and removes it if it is stale and what it left is gone.
func look(dir, name string, clear func(Entry) error) (Entry, bool) {
	f, err := os.Open(filepath.Join(dir, name))
	if err != nil {
		return Entry{}, false
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxEntry))
	if err != nil {
		return Entry{}, false
	}
	e, err := parse(name, data)
	e.dir = dir
	if locked(f) {
		return e, err == nil
	}
	if err == nil && !e.leaves.empty() && (clear == nil || clear(e) != nil) {
		return Entry{}, false
	}
	if id := strings.TrimSuffix(name, entrySuffix); validID(id) {
		os.Remove(filepath.Join(dir, name))
		os.Remove(filepath.Join(dir, id+socketSuffix))
		os.Remove(filepath.Join(dir, id+askSuffix))
	}
	return Entry{}, false
}

// removeOld removes a socket without an entry, or an entry half made: by now it
// would be whole if its supervisor lived.
func removeOld(path string) {
	fi, err := os.Lstat(path)
	if err == nil && time.Since(fi.ModTime()) > time.Minute {
		os.Remove(path)
	}
}
