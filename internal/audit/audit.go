// Package audit owns the record: it writes events as JSON Lines, one file a
// run, each line bound to the one before it by its hash; it reads, verifies,
// queries, follows and summarises such files. It decides nothing.
//
// The chain shows that a line was changed, taken out or put in between. It
// cannot show that the last line was changed, that the end of a file or a whole
// file was taken away, nor that someone who may write the directory made a file
// anew.
//
// Lifetime: a Writer holds an exclusive flock(2) until Close, by which readers
// tell a file that may still grow from a finished one. An Aggregator holds
// repeats in memory until its window ends: Close it before its Writer.
package audit

import (
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/sallyport/sallyport/internal/event"
)

const (
	fileSuffix = ".jsonl"
	fileTime   = "20060102T150405.000000000Z"

	// maxLine bounds a line, so that neither a hostile argument list nor a
	// damaged file can make a reader hold more than this.
	maxLine = 1 << 20
)

// Header is what every event of one file has in common.
type Header struct {
	Sandbox event.Sandbox // of events that name no sandbox themselves
	Host    string
	BootID  string
}

// Dir gives the directory of a user's audit logs, or "" if there is no home.
// A relative $XDG_STATE_HOME is ignored, as the XDG base directory
// specification asks.
func Dir(getenv func(string) string, home string) string {
	if state := getenv("XDG_STATE_HOME"); filepath.IsAbs(state) {
		return filepath.Join(state, "sallyport", "audit")
	}
	if home == "" {
		return ""
	}
	return filepath.Join(home, ".local", "state", "sallyport", "audit")
}

// validID reports whether a sandbox's id may become part of a file name.
func validID(id string) bool {
	const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
	return len(id) > 0 && len(id) <= 64 && strings.ContainsRune(letters, rune(id[0])) &&
		strings.Trim(id, letters+"._-") == ""
}

// fileName gives the name of the log that a sandbox starts at a time; names
// sort by time.
func fileName(start time.Time, id string) (string, error) {
	if !validID(id) {
		return "", fmt.Errorf("sandbox id %q cannot be part of a file name", id)
	}
	return start.UTC().Format(fileTime) + "-" + id + fileSuffix, nil
}

// started gives the time in a log's name, or the zero time if the name is not
// one of ours.
func started(name string) time.Time {
	if len(name) < len(fileTime) {
		return time.Time{}
	}
	t, err := time.Parse(fileTime, name[:len(fileTime)])
	if err != nil {
		return time.Time{}
	}
	return t
}
