package main

import (
	"archive/tar"
	"compress/gzip"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// file is one file of a release.
type file struct {
	from, to string
	mode     int64
}

// files are those of an archive.
func (r *release) files(t target, binaries []string) ([]file, error) {
	files := []file{{"LICENSE", "LICENSE", 0o644}, {"README.md", "README.md", 0o644}}
	for _, b := range binaries {
		files = append(files, file{b, filepath.Base(b), 0o755})
	}
	globs := []struct{ from, to string }{
		{"docs/*.md", "docs"}, {filepath.Join(r.work, "man", "*.1"), "man"},
		{filepath.Join(r.work, "sallyport.*"), "completions"}, {filepath.Join(r.work, "_sallyport"), "completions"},
	}
	if t.os == "linux" {
		globs = append(globs, struct{ from, to string }{"internal/agent/systemd/*", "systemd"})
		files = append(files, file{"sandbox/apparmor/sallyport", "apparmor/sallyport", 0o644})
	}
	for _, g := range globs {
		names, err := filepath.Glob(g.from)
		if err != nil || len(names) == 0 {
			return nil, fmt.Errorf("no files %s", g.from)
		}
		for _, name := range names { // in order, filepath.Glob
			files = append(files, file{name, filepath.Join(g.to, filepath.Base(name)), 0o644})
		}
	}
	return files, nil
}

// writeArchive packs files below a directory of the archive's name: root's, and
// all of one date.
func writeArchive(name, top string, files []file, date time.Time) (err error) {
	out, err := os.Create(name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	zip, err := gzip.NewWriterLevel(out, gzip.BestCompression)
	if err != nil {
		return err
	}
	pack := tar.NewWriter(zip)
	for _, f := range files {
		data, err := os.ReadFile(f.from)
		if err != nil {
			return err
		}
		h := tar.Header{Name: top + "/" + f.to, Mode: f.mode, Size: int64(len(data)), ModTime: date, Format: tar.FormatPAX}
		if err := pack.WriteHeader(&h); err != nil {
			return err
		}
		if _, err := pack.Write(data); err != nil {
			return err
		}
	}
	return errors.Join(pack.Close(), zip.Close())
}

// checksums writes what sha256sum(1) checks.
func (r *release) checksums() error {
	entries, err := os.ReadDir(r.out)
	if err != nil {
		return err
	}
	var sums []byte
	for _, e := range entries {
		data, err := os.ReadFile(filepath.Join(r.out, e.Name()))
		if err != nil {
			return err
		}
		sums = fmt.Appendf(sums, "%x  %s\n", sha256.Sum256(data), e.Name())
	}
	return os.WriteFile(filepath.Join(r.out, "SHA256SUMS"), sums, 0o644)
}
