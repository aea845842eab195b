package image

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Archive returns a folder with packages of a Debian release and their index, which
// apt reads where there is no network: deb [trusted=yes] file:FOLDER ./
func (c Cache) Archive(suite string, packages ...string) (string, error) {
	return c.Make("packages/"+suite+"-"+digest(packages...), func(path string) error {
		a, err := c.openApt(suite)
		if err != nil {
			return err
		}
		if err := a.update(); err != nil {
			return fmt.Errorf("update suite %s: %w", suite, err)
		}
		if err := os.Mkdir(path, 0o755); err != nil {
			return err
		}
		if err := a.download(path, packages...); err != nil {
			return err
		}
		return index(path)
	})
}

// index writes what apt reads of a folder of packages.
func index(dir string) error {
	debs, err := filepath.Glob(filepath.Join(dir, "*.deb"))
	if err != nil || len(debs) == 0 {
		return fmt.Errorf("find packages: %d of them, %v", len(debs), err)
	}
	var list strings.Builder
	for _, deb := range debs {
		control, err := output("", "dpkg-deb", "-f", deb)
		if err != nil {
			return err
		}
		data, err := os.ReadFile(deb)
		if err != nil {
			return err
		}
		fmt.Fprintf(&list, "%s\nFilename: ./%s\nSize: %d\nSHA256: %x\n\n",
			strings.TrimRight(string(control), "\n"), filepath.Base(deb), len(data), sha256.Sum256(data))
	}
	return os.WriteFile(filepath.Join(dir, "Packages"), []byte(list.String()), 0o644)
}
