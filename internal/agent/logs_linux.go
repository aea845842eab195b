package agent

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"time"

	"github.com/sallyport/sallyport/internal/audit"
)

// askEvery is how often an agent is asked for new logs.
const askEvery = time.Second

// logSource is the caller's part of the machine's log, all of it for root: an
// audit.Source. The agent opens the files, the caller reads them.
type logSource struct {
	path  string
	names []string
	asked time.Time
}

// Logs gives the caller's part of the machine's log.
func Logs(path string) audit.Source { return &logSource{path: path} }

func (s *logSource) Path(name string) string { return "the machine's " + name }

func (s *logSource) List() ([]fs.DirEntry, bool, error) {
	if time.Since(s.asked) < askEvery {
		return nil, false, nil
	}
	s.asked = time.Now()
	var names []string
	err := s.with(func(l *link) error {
		for after, more := "", true; more; {
			a, err := l.ask(request{Logs: &logs{After: after}})
			if err != nil {
				return err
			}
			names = append(names, a.Logs...)
			if more = a.More && len(a.Logs) > 0; more {
				after = a.Logs[len(a.Logs)-1]
			}
		}
		return nil
	})
	if err != nil || slices.Equal(names, s.names) {
		return nil, false, err
	}
	s.names = names
	var entries []fs.DirEntry
	for _, n := range names {
		entries = append(entries, logEntry(n))
	}
	return entries, true, nil
}

func (s *logSource) Open(name string) (f *os.File, err error) {
	err = s.with(func(l *link) error {
		a, err := l.ask(request{Logs: &logs{Name: name}})
		if err != nil {
			return err
		}
		if len(a.files) != 1 {
			a.close()
			return fmt.Errorf("open %s: %d descriptors came", name, len(a.files))
		}
		f = a.files[0]
		return nil
	})
	return f, err
}

func (s *logSource) with(f func(*link) error) error {
	l, err := dial(s.path, func(message) {})
	if err != nil {
		return err
	}
	defer l.close()
	return f(l)
}

// logEntry is a log by its name alone.
type logEntry string

func (e logEntry) Name() string               { return string(e) }
func (e logEntry) IsDir() bool                { return false }
func (e logEntry) Type() fs.FileMode          { return 0 }
func (e logEntry) Info() (fs.FileInfo, error) { return nil, errors.New("not known") }
