package matrix

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sort"

	"github.com/sallyport/sallyport/testvm/internal/machine"
	"github.com/sallyport/sallyport/testvm/internal/report"
)

// Kept is a folder of what came of machines, with the same programs, steps and
// kernel: a matrix that was cut short goes on where it was. Machines that failed
// are run again.
type Kept struct {
	Dir    string // empty: nothing is kept
	Digest string // of the programs and steps
}

// keptRow is a file of the folder.
type keptRow struct {
	Digest string
	Row    Row
}

// Digest is of all that a payload runs, wherever it lies in the folder.
func Digest(dir string, steps []report.Step) (string, error) {
	h := sha256.New()
	if err := json.NewEncoder(h).Encode(steps); err != nil {
		return "", fmt.Errorf("digest steps: %w", err)
	}
	var programs []string
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && (d.Name() == "package.test" || filepath.Base(filepath.Dir(path)) == "bin") && d.Type().IsRegular() {
			programs = append(programs, path)
		}
		return err
	})
	if err != nil {
		return "", fmt.Errorf("list programs: %w", err)
	}
	sort.Strings(programs)
	for _, path := range programs {
		f, err := os.Open(path)
		if err != nil {
			return "", fmt.Errorf("digest programs: %w", err)
		}
		_, err = io.Copy(h, f)
		f.Close()
		if err != nil {
			return "", fmt.Errorf("digest programs: %w", err)
		}
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// find gives what came of a machine with a kernel, if it is there.
func (k Kept) find(m machine.Machine, release string) (Row, bool) {
	data, err := os.ReadFile(k.path(m))
	if k.Dir == "" || err != nil {
		return Row{}, false
	}
	var kept keptRow
	if json.Unmarshal(data, &kept) != nil || kept.Digest != k.Digest || kept.Row.Release != release {
		return Row{}, false
	}
	return kept.Row, true
}

// keep takes a machine in.
func (k Kept) keep(m machine.Machine, row Row) error {
	if k.Dir == "" {
		return nil
	}
	data, err := json.MarshalIndent(keptRow{k.Digest, row}, "", "\t")
	if err != nil {
		return fmt.Errorf("encode row: %w", err)
	}
	partial := k.path(m) + ".partial"
	if err := os.WriteFile(partial, data, 0o644); err != nil {
		return fmt.Errorf("keep row: %w", err)
	}
	return os.Rename(partial, k.path(m))
}

func (k Kept) path(m machine.Machine) string { return filepath.Join(k.Dir, m.String()+".json") }
