package loader

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/bpf"
	"github.com/sallyport/sallyport/internal/cgroup"
)

// about says what made the pins. It is pinned with them.
type about struct {
	ABI    uint32
	Level  uint32
	Cgroup uint64
	Ring   uint64
	Build  [32]byte
	// What sees system calls refused: programs of one object or of another.
	Recorder [32]byte
	Fexit    uint64 // 1, or 0
}

// aboutOf is about the programs of some objects, of which those that this kernel
// does not take are nil.
func aboutOf(parent cgroup.Info, ring uint32, own, lsm, fexit *ebpf.CollectionSpec) (a about, err error) {
	a = about{ABI: uint32(bpf.KernelAbiABI), Level: uint32(parent.Depth + 1), Cgroup: parent.ID, Ring: uint64(ring)}
	if a.Build, err = buildOf(own, lsm); err != nil {
		return a, err
	}
	if fexit != nil {
		a.Fexit = 1
		a.Recorder, err = buildOf(fexit)
	} else {
		a.Recorder, err = buildOf(exitSpec(own))
	}
	return a, err
}

func buildOf(specs ...*ebpf.CollectionSpec) (sum [32]byte, err error) {
	h := sha256.New()
	for _, spec := range specs {
		if spec == nil {
			continue
		}
		for _, name := range slices.Sorted(maps.Keys(spec.Programs)) {
			//lint:ignore SA1019 it tells our own builds apart, and is not compared with the kernel's
			tag, err := spec.Programs[name].Instructions.Tag(spec.ByteOrder)
			if err != nil {
				return sum, fmt.Errorf("identify program %s: %w", name, err)
			}
			fmt.Fprintln(h, name, spec.Programs[name].AttachTo, tag)
		}
		for _, kv := range spec.Maps[".rodata"].Contents {
			fmt.Fprintf(h, "%x\n", kv.Value)
		}
	}
	h.Sum(sum[:0])
	return sum, nil
}

// pins is a folder on a bpffs. A nil *pins pins nothing.
type pins struct {
	dir   string
	about about // of what was found
	lock  *os.File
	have  bool
}

// openPins takes the folder and says whether there is something in it to adopt.
func openPins(dir string, want about) (*pins, bool, error) {
	p := &pins{dir: dir}
	for _, d := range []string{dir, p.path("maps"), p.path("links")} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return nil, false, fmt.Errorf("make folder for pins: %w", err)
		}
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		return nil, false, fmt.Errorf("look at %s: %w", dir, err)
	}
	if fs.Type != unix.BPF_FS_MAGIC {
		return nil, false, &PinError{dir, "not on a bpf file system"}
	}
	f, err := os.Open(dir)
	if err != nil {
		return nil, false, fmt.Errorf("open folder for pins: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, false, fmt.Errorf("lock %s: %w", dir, ErrInUse)
	}
	p.lock = f
	found, err := p.read()
	if err == nil && found {
		if err = p.check(want); err == nil && p.about.Recorder != want.Recorder {
			found, err = p.inUse()
		}
	}
	if err != nil {
		p.close()
		return nil, false, err
	}
	if !found { // of a Load that was cut short, or with another recorder: nothing depends on it
		err = p.clear()
	}
	p.have = found
	return p, found, err
}

func (p *pins) path(elem ...string) string {
	return filepath.Join(append([]string{p.dir}, elem...)...)
}

// read loads what made the pins, which is pinned last.
func (p *pins) read() (bool, error) {
	m, err := ebpf.LoadPinnedMap(p.path("about"), nil)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("read pins: %w", err)
	}
	defer m.Close()
	if m.ValueSize() != uint32(binary.Size(p.about)) {
		return false, &PinError{p.dir, "another version's"}
	}
	if err := m.Lookup(uint32(0), &p.about); err != nil {
		return false, fmt.Errorf("read pins: %w", err)
	}
	return true, nil
}

func (p *pins) check(want about) error {
	switch {
	case p.about.ABI != want.ABI:
		return &PinError{p.dir, "another version's maps; end its sandboxes and detach it first"}
	case p.about.Cgroup != want.Cgroup || p.about.Level != want.Level:
		return &PinError{p.dir, "attached to another cgroup, or to one that is gone"}
	case p.about.Ring != want.Ring:
		return &PinError{p.dir, "another size of ring buffer"}
	}
	return nil
}

// inUse reports whether there are sandboxes.
func (p *pins) inUse() (bool, error) {
	m, err := ebpf.LoadPinnedMap(p.path("maps", "sandboxes"), nil)
	if err != nil {
		return false, fmt.Errorf("read pins: %w", err)
	}
	defer m.Close()
	var id uint64
	err = m.NextKey(nil, &id)
	if errors.Is(err, ebpf.ErrKeyNotExist) {
		return false, nil
	}
	return true, err
}

// finish says that all is pinned, by whom.
func (p *pins) finish(a about) error {
	if p == nil || p.have && p.about == a {
		return nil
	}
	m, err := ebpf.NewMap(&ebpf.MapSpec{Name: "about", Type: ebpf.Array, KeySize: 4, ValueSize: uint32(binary.Size(a)), MaxEntries: 1})
	if err != nil {
		return fmt.Errorf("make map about: %w", err)
	}
	defer m.Close()
	if err := m.Put(uint32(0), a); err != nil {
		return fmt.Errorf("fill map about: %w", err)
	}
	if err := os.Remove(p.path("about")); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("replace map about: %w", err)
	}
	if err := m.Pin(p.path("about")); err != nil {
		return fmt.Errorf("pin map about: %w", err)
	}
	p.have, p.about = true, a
	return nil
}

// loadMap makes a map, or takes the pinned one.
func (p *pins) loadMap(name string, spec *ebpf.MapSpec) (*ebpf.Map, error) {
	if p != nil && p.have {
		m, err := ebpf.LoadPinnedMap(p.path("maps", name), nil)
		if !errors.Is(err, os.ErrNotExist) {
			return m, err
		} // of programs that the predecessor had not got
	}
	m, err := ebpf.NewMap(spec)
	if err != nil || p == nil {
		return m, err
	}
	if err := m.Pin(p.path("maps", name)); err != nil {
		m.Close()
		return nil, err
	}
	return m, nil
}

func (p *pins) link(name string) (link.Link, error) {
	if p == nil {
		return nil, os.ErrNotExist
	}
	return link.LoadPinnedLink(p.path("links", name), nil)
}

// links are the names of the pinned links that begin so.
func (p *pins) links(prefix string) ([]string, error) {
	entries, err := os.ReadDir(p.path("links"))
	if err != nil {
		return nil, fmt.Errorf("list pins: %w", err)
	}
	var out []string
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), prefix) {
			out = append(out, e.Name())
		}
	}
	return out, nil
}

// putLink pins a link in the place of an older one, which goes with it.
func (p *pins) putLink(name string, l link.Link) error {
	if p == nil {
		return nil
	}
	next := p.path("links", name+"_new")
	if err := os.Remove(next); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := l.Pin(next); err != nil {
		return err
	}
	return os.Rename(next, p.path("links", name))
}

// drop removes the pins that there may be of a link, or of a map.
func (p *pins) drop(dir, name string) error {
	if p == nil {
		return nil
	}
	if err := os.Remove(p.path(dir, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// clear removes every pin, links first: programs end before their maps do.
func (p *pins) clear() error {
	var errs []error
	for _, dir := range []string{"links", "maps"} {
		entries, err := os.ReadDir(p.path(dir))
		errs = append(errs, err)
		for _, e := range entries {
			errs = append(errs, os.Remove(p.path(dir, e.Name())))
		}
	}
	if err := os.Remove(p.path("about")); !errors.Is(err, os.ErrNotExist) {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// remove removes the pins and their folder.
func (p *pins) remove() error {
	if p == nil || p.lock == nil {
		return nil
	}
	return errors.Join(p.clear(), os.Remove(p.path("links")), os.Remove(p.path("maps")), os.Remove(p.dir))
}

func (p *pins) close() error {
	if p == nil || p.lock == nil {
		return nil
	}
	err := p.lock.Close()
	p.lock = nil
	return err
}

// MountPins makes a folder that Options.Pin may be below: a bpffs of its own,
// unless there is one. It must be called in the host's mount namespace: pins go
// with the last mount of their file system.
func MountPins(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("mount bpffs: %w", err)
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		return fmt.Errorf("mount bpffs: %w", err)
	}
	if fs.Type == unix.BPF_FS_MAGIC {
		return nil
	}
	if err := unix.Mount("bpf", dir, "bpf", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "mode=700"); err != nil {
		return fmt.Errorf("mount bpffs at %s: %w", dir, err)
	}
	return nil
}
