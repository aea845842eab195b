// Package registry lists the sandboxes that a user has running. Each has an
// entry, a file that its supervisor holds locked for as long as it lives, and a
// socket beside it on which the supervisor can be asked. The kernel drops the
// lock with the process, however it ends: an entry that is not locked is stale,
// and removed by whoever comes across it.
//
// The directories are the user's own, 0700, and never in the sight of a
// sandbox: who can write here can ask for a program in every sandbox of the
// user's.
package registry

import (
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Entry is one running sandbox.
type Entry struct {
	ID      string    `json:"id"`
	Name    string    `json:"name,omitempty"`
	PID     int       `json:"pid"` // of the supervisor
	Start   time.Time `json:"start"`
	Command []string  `json:"command"`
	Dir     string    `json:"dir"` // working directory
	Tier    string    `json:"tier"`

	// Where PID means this process: a home directory can be that of several
	// machines, and of several containers of one.
	Host Host `json:"host"`

	dir    string // of the registry
	leaves Leaves
}

// Leaves is what stays behind a supervisor that is killed, where the system does
// not end and remove it.
type Leaves struct {
	Files     []string `json:"files,omitempty"`
	Processes []Proc   `json:"processes,omitempty"`
}

// Proc is a process, told from others that have its number later.
type Proc struct {
	PID   int   `json:"pid"`
	Start int64 `json:"start"`
}

func (l Leaves) empty() bool { return len(l.Files) == 0 && len(l.Processes) == 0 }

// Leaves gives what the sandbox leaves if its supervisor is killed.
func (e Entry) Leaves() Leaves { return e.leaves }

// Leaving gives the entry with what it leaves.
func (e Entry) Leaving(l Leaves) Entry {
	e.leaves = l
	return e
}

// stored is an entry as its file has it.
type stored struct {
	Entry
	Leaves Leaves `json:"leaves,omitzero"`
}

// Host is a running system, as a process sees it.
type Host struct {
	BootID string `json:"boot_id"`
	PIDs   string `json:"pids,omitempty"` // the pid namespace
}

// Dirs gives the directories of a user's registry, that to use first: the
// runtime directory, which ends with the user's last session, and the state
// directory for who has none. Relative values are ignored, as the XDG base
// directory specification asks.
func Dirs(getenv func(string) string, home string, uid int) []string {
	var dirs []string
	add := func(parts ...string) {
		dir := filepath.Join(parts...)
		for _, d := range dirs {
			if d == dir {
				return
			}
		}
		dirs = append(dirs, dir)
	}
	if dir := getenv("XDG_RUNTIME_DIR"); filepath.IsAbs(dir) {
		add(dir, "sallyport")
	}
	// For who runs under cron and looks from a session, or the other way round.
	add("/run/user", strconv.Itoa(uid), "sallyport")
	if dir := getenv("XDG_STATE_HOME"); filepath.IsAbs(dir) {
		add(dir, "sallyport", "run")
	} else if home != "" {
		add(home, ".local", "state", "sallyport", "run")
	}
	return dirs
}

const (
	entrySuffix  = ".json"
	socketSuffix = ".sock"
	askSuffix    = ".ask"
)

// maxEntry bounds an entry: a command line has no bound of its own that is of
// use to a reader.
const maxEntry = 64 << 10

// shortened keeps an entry below its bound.
func (e Entry) shortened() Entry {
	const most = 16 << 10
	total := 0
	for i, arg := range e.Command {
		if total += len(arg) + 1; total > most {
			e.Command = append(append([]string(nil), e.Command[:i]...), "…")
			break
		}
	}
	return e
}

func (e Entry) encode() ([]byte, error) {
	b, err := json.Marshal(stored{e.shortened(), e.leaves})
	if err != nil {
		return nil, fmt.Errorf("encode entry: %w", err)
	}
	return append(b, '\n'), nil
}

// parse reads the entry of a file by its name: what it says must be of it.
func parse(name string, data []byte) (Entry, error) {
	id, ok := strings.CutSuffix(name, entrySuffix)
	if !ok || !validID(id) {
		return Entry{}, fmt.Errorf("read %q: not an entry's name", name)
	}
	var s stored
	if err := json.Unmarshal(data, &s); err != nil {
		return Entry{}, fmt.Errorf("read %s: %w", name, err)
	}
	e := s.Entry.Leaving(s.Leaves)
	if e.ID != id || e.PID <= 1 {
		return Entry{}, fmt.Errorf("read %s: it is of %q, process %d", name, e.ID, e.PID)
	}
	return e, nil
}

// validID reports whether an id may become part of a file name.
func validID(id string) bool {
	const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
	return len(id) > 0 && len(id) <= 64 && strings.Trim(id, letters+"_-") == ""
}

// Errors of Find.
var (
	ErrNone      = errors.New("no sandbox of this name or id is running")
	ErrAmbiguous = errors.New("several running sandboxes have this name")
)

// Find gives the one entry that is meant: by its id, by the beginning of its id
// if no other's begins so, or by its name.
func Find(entries []Entry, what string) (Entry, error) {
	var byName, byPrefix []Entry
	for _, e := range entries {
		switch {
		case e.ID == what:
			return e, nil
		case e.Name == what && what != "":
			byName = append(byName, e)
		case strings.HasPrefix(e.ID, what) && len(what) >= 4:
			byPrefix = append(byPrefix, e)
		}
	}
	for _, found := range [][]Entry{byName, byPrefix} {
		switch {
		case len(found) == 1:
			return found[0], nil
		case len(found) > 1:
			return Entry{}, fmt.Errorf("%w: %s", ErrAmbiguous, ids(found))
		}
	}
	return Entry{}, ErrNone
}

func ids(entries []Entry) string {
	var list []string
	for _, e := range entries {
		list = append(list, e.ID)
	}
	return strings.Join(list, ", ")
}
