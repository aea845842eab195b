package audit

import (
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// Source is a place where logs are: a directory, or what somebody hands out who
// may read them.
type Source interface {
	// List names the logs there are, as files; changed reports that there may be
	// others than the last time. If not, entries need not be given.
	List() (entries []fs.DirEntry, changed bool, err error)
	Open(name string) (*os.File, error)
	// Path is a log's name for people.
	Path(name string) string
}

// DirSource is a directory of logs.
func DirSource(dir string) Source { return &dirSource{dir: dir} }

type dirSource struct {
	dir    string
	listed time.Time // change time of dir when it was listed; zero: list it
}

func (d *dirSource) Path(name string) string            { return filepath.Join(d.dir, name) }
func (d *dirSource) Open(name string) (*os.File, error) { return os.Open(d.Path(name)) }

func (d *dirSource) List() ([]fs.DirEntry, bool, error) {
	info, err := os.Stat(d.dir)
	if err == nil && info.ModTime().Equal(d.listed) {
		return nil, false, nil
	}
	now := time.Now()
	entries, err := os.ReadDir(d.dir)
	if err != nil {
		return nil, false, err
	}
	d.listed = time.Time{}
	if now.Sub(info.ModTime()) > listAfter {
		d.listed = info.ModTime()
	}
	return entries, true, nil
}
