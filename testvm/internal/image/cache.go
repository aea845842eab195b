// Package image makes what test VMs are started from: kernels, a root file
// system, Vagrant boxes. It owns a cache outside the repository; whatever is in
// it is whole, is never changed again, and is used without asking the network.
// Building needs root on a Debian system; using what was built does not.
package image

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// EnvCache names the folder of the cache.
const EnvCache = "SALLYPORT_TESTVM_CACHE"

// Cache is a folder of finished things.
type Cache struct {
	Dir string
	Log func(format string, args ...any) // nil: silent
}

// DefaultDir is where the cache is, unless the environment says otherwise.
func DefaultDir(getenv func(string) string, uid int) (string, error) {
	switch {
	case getenv(EnvCache) != "":
		return filepath.Abs(getenv(EnvCache))
	case uid == 0:
		return "/var/cache/sallyport-testvm", nil
	case getenv("XDG_CACHE_HOME") != "":
		return filepath.Join(getenv("XDG_CACHE_HOME"), "sallyport", "testvm"), nil
	case getenv("HOME") != "":
		return filepath.Join(getenv("HOME"), ".cache", "sallyport", "testvm"), nil
	}
	return "", fmt.Errorf("find cache: none of %s, XDG_CACHE_HOME and HOME is set", EnvCache)
}

func (c Cache) logf(format string, args ...any) {
	if c.Log != nil {
		c.Log(format, args...)
	}
}

// Has reports whether a thing is finished.
func (c Cache) Has(name string) bool {
	_, err := os.Lstat(c.path(name))
	return err == nil
}

func (c Cache) path(name string) string { return filepath.Join(c.Dir, filepath.FromSlash(name)) }

// Make returns the path of a thing, a file or a folder, after building it if it
// is not there. The build writes to a path beside it that is renamed at the end,
// under a lock: two at once build once, and a build cut short leaves nothing.
func (c Cache) Make(name string, build func(path string) error) (string, error) {
	path := c.path(name)
	if c.Has(name) {
		c.use(path)
		return path, nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return "", fmt.Errorf("make cache: %w", err)
	}
	unlock, err := lock(path + ".lock")
	if err != nil {
		return "", err
	}
	defer unlock()
	if c.Has(name) {
		return path, nil
	}
	partial := path + ".partial"
	if err := os.RemoveAll(partial); err != nil {
		return "", fmt.Errorf("clear what an earlier build left: %w", err)
	}
	defer os.RemoveAll(partial)
	c.logf("building %s", name)
	if err := build(partial); err != nil {
		return "", fmt.Errorf("build %s: %w", name, err)
	}
	if err := os.Rename(partial, path); err != nil {
		return "", fmt.Errorf("finish %s: %w", name, err)
	}
	return path, nil
}

// use notes that a thing was needed, for Prune; whoever may not write to the cache
// leaves no note.
func (c Cache) use(path string) { _ = os.Chtimes(path, time.Now(), time.Now()) }

// Prune removes things that nobody needed for some time: kernels that newer ones
// replaced, images built another way.
func (c Cache) Prune(unused time.Duration) error {
	locks, err := filepath.Glob(c.path("*/*.lock"))
	if err != nil {
		return fmt.Errorf("list cache: %w", err)
	}
	for _, name := range locks {
		path := strings.TrimSuffix(name, ".lock")
		info, err := os.Stat(path)
		if err != nil || time.Since(info.ModTime()) < unused {
			continue
		}
		c.logf("removing %s, unused since %s", filepath.Base(path), info.ModTime().Format(time.DateOnly))
		if err := errors.Join(os.RemoveAll(path), os.Remove(name)); err != nil {
			return fmt.Errorf("prune cache: %w", err)
		}
	}
	return c.pruneLeftovers()
}

// pruneLeftovers removes folders of runs that were killed: none takes a day.
func (c Cache) pruneLeftovers() error {
	for _, pattern := range []string{"run-*", "work-*", "trial-*", "vagrant-*"} {
		folders, err := filepath.Glob(c.path(pattern))
		if err != nil {
			return fmt.Errorf("list cache: %w", err)
		}
		for _, path := range folders {
			info, err := os.Stat(path)
			if err != nil || time.Since(info.ModTime()) < 24*time.Hour {
				continue
			}
			if err := os.RemoveAll(path); err != nil {
				return fmt.Errorf("prune cache: %w", err)
			}
		}
	}
	return nil
}

// lock waits for an exclusive lock; the kernel drops it with its holder.
func lock(path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|syscall.O_CLOEXEC, 0o644)
	if err != nil {
		return nil, fmt.Errorf("open lock: %w", err)
	}
	for {
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX)
		if !errors.Is(err, syscall.EINTR) {
			break
		}
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return func() { f.Close() }, nil
}

// replace writes a small file that changes over time, whole or not at all.
func (c Cache) replace(name string, data []byte) error {
	path := c.path(name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("make cache: %w", err)
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*.partial")
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(data)
	err = errors.Join(err, tmp.Chmod(0o644), tmp.Close())
	if err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}

// digest is short and depends on every part and on their order: what a thing is
// built from goes into its name, so that it is built anew when that changes.
func digest(parts ...string) string {
	h := sha256.New()
	for _, p := range parts {
		fmt.Fprintf(h, "%d:%s", len(p), p)
	}
	return hex.EncodeToString(h.Sum(nil))[:12]
}

// files reads embedded files, in order; one that is missing is a fault of the program.
func files(names ...string) []string {
	parts := make([]string, len(names))
	for i, name := range names {
		b, err := fs.ReadFile(embedded, "files/"+name)
		if err != nil {
			panic(err)
		}
		parts[i] = string(b)
	}
	return parts
}
