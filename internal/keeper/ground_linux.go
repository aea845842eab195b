package keeper

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/internal/cgroup"
)

// parentName is the cgroup below which every keeper has one of its own.
const parentName = "sallyport-runs"

// ground is a keeper's own cgroup, to which its programs are attached. As long
// as its keeper lives it is locked (flock(2)): by that the next one knows what
// can be swept.
type ground struct {
	dir  string
	lock *os.File
}

func takeGround() (*ground, error) {
	parent, err := cgroup.Parent(parentName)
	if err != nil {
		return nil, err
	}
	_, _ = sweep(parent) // what cannot be removed harms nobody
	for range 8 {
		g, err := newGround(parent)
		if err != nil || g != nil {
			return g, err
		}
	}
	return nil, errors.New("make cgroup: somebody removes it each time")
}

// newGround gives nil where another keeper has swept it before it was locked.
func newGround(parent string) (*ground, error) {
	var id [6]byte
	_, _ = rand.Read(id[:]) // never fails (crypto/rand)
	made, err := cgroup.Make(parent, fmt.Sprintf("run-%x", id))
	if errors.Is(err, os.ErrNotExist) {
		// The parent went with its last child.
		if err := os.MkdirAll(parent, 0o755); err != nil {
			return nil, fmt.Errorf("make cgroup: %w", err)
		}
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	lock, err := lockDir(made.Dir)
	if err != nil {
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.EWOULDBLOCK) {
			return nil, nil
		}
		return nil, errors.Join(err, made.Remove())
	}
	if _, err := os.Stat(made.Dir); err != nil {
		lock.Close()
		return nil, nil
	}
	return &ground{made.Dir, lock}, nil
}

func lockDir(dir string) (*os.File, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", dir, err)
	}
	return f, nil
}

// Sweep removes the cgroups of root's runs that crashed, and names them.
func Sweep() ([]string, error) {
	mount, err := cgroup.Mount()
	if err != nil {
		return nil, nil // there can be none
	}
	parent := filepath.Join(mount, parentName)
	removed, err := sweep(parent)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	_ = os.Remove(parent) // others are there
	for i, name := range removed {
		removed[i] = filepath.Join(parent, name)
	}
	return removed, err
}

// sweep removes what keepers left that were killed.
func sweep(parent string) ([]string, error) {
	var locks []*os.File
	removed, err := cgroup.Sweep(parent, func(name string, _ cgroup.Info) bool {
		if !strings.HasPrefix(name, "run-") {
			return true
		}
		lock, err := lockDir(filepath.Join(parent, name))
		if err != nil {
			return true // somebody's
		}
		locks = append(locks, lock)
		return false
	}, time.Second)
	for _, l := range locks {
		l.Close()
	}
	return removed, err
}

// release removes the cgroup, and the parent with the last of them.
func (g *ground) release() error {
	if g == nil {
		return nil
	}
	own, err := cgroup.Open(g.dir)
	if err == nil {
		err = errors.Join(own.Kill(endLimit), own.Remove())
	}
	_ = os.Remove(filepath.Dir(g.dir)) // others are there
	return errors.Join(err, g.lock.Close())
}
