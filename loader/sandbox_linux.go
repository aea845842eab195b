package loader

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/bpf"
)

// box is what user space knows of a sandbox.
type box struct {
	canary string   // empty: none is waited for, or any more
	seen   bool     // it was
	others int      // records that came before
	root   *os.File // of the sandbox's file system, or nil
	eyes   *Eyes    // who looks at it; nil: this process
	record bpf.KernelSandbox
}

type boxes struct {
	mu   sync.Mutex
	byID map[uint64]*box
}

func (b *boxes) get(id uint64) *box {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.byID[id]
}

// early takes a record that comes before its sandbox was started.
func (b *boxes) early(r Record) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	x := b.byID[r.Cgroup]
	if x == nil || x.canary == "" {
		return false
	}
	x.seen = x.seen || r.canary
	x.others++
	return true
}

// canary reports whether a sandbox's is waited for, and whether it was seen.
func (b *boxes) canary(id uint64) (waited, seen bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	x := b.byID[id]
	return x != nil && x.canary != "", x != nil && x.seen
}

func (b *boxes) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, x := range b.byID {
		if x.root != nil {
			x.root.Close()
			x.root = nil
		}
	}
}

// socketBits translates the rules for sockets.
func socketBits(r Rules) (bits uint32) {
	for _, f := range []struct {
		on  bool
		bit bpf.KernelSocketBit
	}{
		{r.TCP, bpf.KernelSocketBitSOCKET_TCP}, {r.UDP, bpf.KernelSocketBitSOCKET_UDP},
		{r.Ping, bpf.KernelSocketBitSOCKET_PING}, {r.MPTCP, bpf.KernelSocketBitSOCKET_MPTCP},
	} {
		if f.on {
			bits |= uint32(f.bit)
		}
	}
	return bits
}

// AddSandbox makes the cgroup with this id (see cgroup.Info) a sandbox: its
// rules hold from now on. Refused system calls are recorded from Start on.
// A cgroup below the parent that was not added may make no sockets at all.
func (l *Loader) AddSandbox(id uint64, r Rules) error {
	if l.opts.Supervised && !r.NoRefused {
		return errors.New("add sandbox: nobody records what seccomp refuses")
	}
	b := &box{canary: r.Canary, record: bpf.KernelSandbox{Sockets: socketBits(r)}}
	if r.NoRefused {
		b.record.Flags |= uint32(bpf.KernelSandboxFlagSANDBOX_NO_REFUSED)
	}
	if r.AnyUnix {
		b.record.Flags |= uint32(bpf.KernelSandboxFlagSANDBOX_ANY_UNIX)
	}
	if r.Nested {
		b.record.Flags |= uint32(bpf.KernelSandboxFlagSANDBOX_NESTED)
	}
	if r.Canary != "" {
		b.record.Flags |= uint32(bpf.KernelSandboxFlagSANDBOX_RECORD)
	}
	keys, err := unixKeys(id, r)
	if err != nil {
		return fmt.Errorf("add sandbox: %w", err)
	}
	l.boxes.mu.Lock()
	defer l.boxes.mu.Unlock()
	if l.boxes.byID[id] != nil {
		return fmt.Errorf("add sandbox: cgroup %d is one already", id)
	}
	for _, k := range keys {
		if err := l.maps["unix_names"].Put(k, uint32(1)); err != nil {
			return errors.Join(fmt.Errorf("add sandbox: allow unix socket: %w", full(err)), l.dropRules(id))
		}
	}
	if err := l.addLSM(id, r); err != nil {
		return errors.Join(fmt.Errorf("add sandbox: %w", full(err)), l.dropRules(id))
	}
	if err := l.maps["sandboxes"].Put(id, b.record); err != nil {
		return errors.Join(fmt.Errorf("add sandbox: %w", full(err)), l.dropRules(id))
	}
	l.boxes.byID[id] = b
	return nil
}

// full names the kernel's answer to one entry too many (bpf(2): E2BIG; for a
// trie, ENOSPC; without memory, ENOMEM).
func full(err error) error {
	if errors.Is(err, unix.E2BIG) || errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.ENOMEM) {
		return errors.Join(ErrFull, err)
	}
	return err
}

// unixKeys are the entries that the rules for unix sockets come to.
func unixKeys(id uint64, r Rules) ([]bpf.KernelUnixKey, error) {
	var keys []bpf.KernelUnixKey
	for _, dir := range r.UnixDirs {
		if path.Clean(dir) == "/" {
			return nil, errors.New("the whole file system as a folder for unix sockets")
		}
		k, err := unixKey(id, path.Clean(dir)+"/", false)
		if err != nil {
			return nil, err
		}
		keys = append(keys, k)
	}
	for _, s := range r.UnixSockets {
		k, err := unixKey(id, path.Clean(s), true)
		if err != nil {
			return nil, err
		}
		keys = append(keys, k)
	}
	return keys, nil
}

// unixKey is the entry for all names that begin with this one, or for it alone.
func unixKey(id uint64, name string, whole bool) (bpf.KernelUnixKey, error) {
	var k bpf.KernelUnixKey
	n := len(name)
	if whole {
		n++ // the NUL that ends it
	}
	if !strings.HasPrefix(name, "/") || strings.ContainsRune(name, 0) || n > len(k.Path) {
		return k, fmt.Errorf("unix socket %q: not an absolute path of at most %d bytes", name, len(k.Path)-1)
	}
	binary.NativeEndian.PutUint64(k.Sandbox[:], id)
	copy(k.Path[:], name)
	k.Bits = uint32(8 * (len(k.Sandbox) + n))
	return k, nil
}

// dropRules takes a sandbox's entries out of the maps of rules.
func (l *Loader) dropRules(id uint64) error {
	return errors.Join(l.dropUnix("unix_names", id), l.dropLSM(id))
}

func (l *Loader) dropUnix(name string, id uint64) error {
	var k bpf.KernelUnixKey
	var v uint32
	var keys []bpf.KernelUnixKey
	it := l.maps[name].Iterate()
	for it.Next(&k, &v) {
		if binary.NativeEndian.Uint64(k.Sandbox[:]) == id {
			keys = append(keys, k)
		}
	}
	errs := []error{it.Err()}
	for _, k := range keys {
		errs = append(errs, l.maps[name].Delete(k))
	}
	return errors.Join(errs...)
}

// Start begins to record refused system calls, and to refuse what LSM programs do:
// what sets a sandbox up needs some of it. root, if not nil, is the
// sandbox's root folder (O_PATH will do): paths are then resolved in it, after
// the fact; Start takes it over. Without it they are cleaned as text.
//
// Resolving asks the file systems that the sandbox sees: give no root where a
// user's own file system could keep the caller waiting.
func (l *Loader) Start(id uint64, root *os.File) error {
	if err := l.awaitCanary(id); err != nil {
		return fmt.Errorf("start recording: %w", err)
	}
	l.boxes.mu.Lock()
	defer l.boxes.mu.Unlock()
	b := l.boxes.byID[id]
	if b == nil {
		return fmt.Errorf("start recording: no sandbox has cgroup %d", id)
	}
	record := b.record
	record.Flags |= uint32(bpf.KernelSandboxFlagSANDBOX_RECORD | bpf.KernelSandboxFlagSANDBOX_STARTED)
	if err := l.maps["sandboxes"].Put(id, record); err != nil {
		return fmt.Errorf("start recording: %w", err)
	}
	b.record, b.root, b.canary = record, root, ""
	return nil
}

// awaitCanary returns when all that was refused before Start was read, and the
// canary was among it.
func (l *Loader) awaitCanary(id uint64) error {
	if waited, _ := l.boxes.canary(id); !waited {
		return nil
	}
	l.reader.look()
	// What was counted by then and not told is not to be the command's, nor lost.
	_, owed, err := l.told.owed()
	if err != nil {
		return err
	}
	_, seen := l.boxes.canary(id)
	if !seen || owed { // its record may have found no room: it is counted then
		l.reader.drain()
		_, seen = l.boxes.canary(id)
	}
	if !seen {
		l.boxes.mu.Lock()
		defer l.boxes.mu.Unlock()
		if b := l.boxes.byID[id]; b != nil {
			return fmt.Errorf("%w (%d others did)", ErrNoCanary, b.others)
		}
		return ErrNoCanary
	}
	return nil
}

// RemoveSandbox forgets a sandbox, whose cgroup should be empty: what it did is
// read and told first.
func (l *Loader) RemoveSandbox(id uint64) error {
	l.boxes.mu.Lock()
	b := l.boxes.byID[id]
	l.boxes.mu.Unlock()
	if b == nil {
		return fmt.Errorf("remove sandbox: no sandbox has cgroup %d", id)
	}
	l.reader.drain()
	errs := []error{l.maps["sandboxes"].Delete(id), l.dropRules(id)}
	l.boxes.mu.Lock()
	delete(l.boxes.byID, id)
	l.boxes.mu.Unlock()
	if b.root != nil {
		errs = append(errs, b.root.Close())
	}
	errs = append(errs, l.procs.forget(func(p *bpf.KernelProc) bool { return p.Sandbox == id }))
	l.procs.forgetGone(id)
	l.reader.forget(id)
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("remove sandbox: %w", err)
	}
	return nil
}

// Sandboxes lists the cgroups that are sandboxes, after adopting pins those of
// the predecessor included: theirs that are gone should be removed.
func (l *Loader) Sandboxes() []uint64 {
	l.boxes.mu.Lock()
	defer l.boxes.mu.Unlock()
	var ids []uint64
	for id := range l.boxes.byID {
		ids = append(ids, id)
	}
	return ids
}

func (l *Loader) adoptSandboxes() error {
	var id uint64
	var v bpf.KernelSandbox
	it := l.maps["sandboxes"].Iterate()
	for it.Next(&id, &v) {
		l.boxes.byID[id] = &box{record: v}
	}
	if err := it.Err(); err != nil {
		return fmt.Errorf("adopt sandboxes: %w", err)
	}
	// The ends of processes that nobody read about.
	return l.procs.forget(func(p *bpf.KernelProc) bool { return p.Ended != 0 && l.boxes.byID[p.Sandbox] == nil })
}
