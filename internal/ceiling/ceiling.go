// Package ceiling reads the administrator's policies, over which no user's goes.
// It parses nothing, and leaves out no file that could be meant: what cannot be
// read is an error, because to go on without it would be to ignore it.
package ceiling

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/sallyport/sallyport/internal/policy"
)

// Dir is where the administrator's policies are.
const Dir = "/etc/sallyport/policy.d"

// Read gives the policies of a directory in the order of their names; none
// where there is no directory.
func Read(dir string) ([]policy.Source, error) {
	entries, err := os.ReadDir(dir) // sorted
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read administrator's policies: %w", err)
	}
	var sources []policy.Source
	for _, e := range entries {
		name := filepath.Join(dir, e.Name())
		switch ext := filepath.Ext(name); {
		case strings.HasPrefix(e.Name(), "."): // an editor's
			continue
		case ext == ".yml" || ext == ".json":
			return nil, fmt.Errorf("read administrator's policies: %s: only *.yaml is read: rename it", name)
		case ext != ".yaml":
			continue
		}
		data, err := read(name)
		if err != nil {
			return nil, fmt.Errorf("read administrator's policies: %w", err)
		}
		sources = append(sources, policy.Source{Name: name, Data: data, Layer: policy.LayerCeiling})
	}
	return sources, nil
}

// read reads no more than makes the parser refuse it.
func read(name string) ([]byte, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is no regular file", name)
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, policy.MaxBytes+1))
}
