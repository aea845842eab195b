package loader

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"path"
	"slices"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/bpf"
	"github.com/sallyport/sallyport/internal/cgroup"
)

// lsmSpec gives the LSM programs if this kernel enforces what they say; else why
// not: ErrMissing, or what kept that from being found out.
func lsmSpec(o Options, types *btf.Cache) (*ebpf.CollectionSpec, error) {
	if o.NoLSM {
		return nil, fmt.Errorf("%w: left out", ErrMissing)
	}
	kernel, err := types.Kernel()
	if err != nil {
		return nil, fmt.Errorf("probe LSM: %w", err)
	}
	if err := probeLSM(kernel); err != nil {
		return nil, err
	}
	spec, err := bpf.LoadLSM()
	if err != nil {
		return nil, fmt.Errorf("read LSM programs: %w", err)
	}
	if o.One {
		spec.Maps["file_names"].MaxEntries, spec.Maps["file_boxes"].MaxEntries = 1<<16, 64
	}
	return spec, nil
}

// newestHook is that of the LSM hooks in use which came last: Linux 6.1.
const newestHook = "userns_create"

// probeLSM has a program refuse something that nobody else attempts: a socket of a
// protocol that there is not, which the kernel answers with EINVAL, unless an LSM
// refuses before. Where bpf is not in lsm=, such a program is loaded and attached
// and never asked.
func probeLSM(kernel *btf.Spec) error {
	unheardOf := 1<<16 + rand.Int32N(1<<30)
	prog, err := ebpf.NewProgramWithOptions(&ebpf.ProgramSpec{
		Name: "lsm_probe", Type: ebpf.LSM, AttachType: ebpf.AttachLSMMac, AttachTo: "socket_create", License: "GPL",
		Instructions: asm.Instructions{
			asm.LoadMem(asm.R1, asm.R1, 16, asm.DWord), // int protocol
			asm.Mov.Imm(asm.R0, 0),
			asm.JNE.Imm32(asm.R1, unheardOf, "out"),
			asm.Mov.Imm(asm.R0, -int32(unix.EPERM)),
			asm.Return().WithSymbol("out"),
		},
	}, ebpf.ProgramOptions{KernelTypes: kernel, LogDisabled: true})
	if err != nil {
		return fmt.Errorf("probe LSM: load: %w", missing(err))
	}
	defer prog.Close()
	try := func() error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, int(unheardOf))
		if err == nil {
			unix.Close(fd)
		}
		return err
	}
	before := try()
	l, err := link.AttachLSM(link.LSMOptions{Program: prog})
	if err != nil {
		return fmt.Errorf("probe LSM: attach: %w", missing(err))
	}
	defer l.Close()
	switch err := try(); {
	case before == nil || errors.Is(before, unix.EPERM):
		return fmt.Errorf("probe LSM: a socket of no protocol: %w", before)
	case errors.Is(err, unix.EPERM):
		// Last: to find a type takes longer than all of the above.
		var hook *btf.Func
		if err := kernel.TypeByName("bpf_lsm_"+newestHook, &hook); err != nil {
			return fmt.Errorf("%w: LSM hook %s (Linux 6.1)", ErrMissing, newestHook)
		}
		return nil
	case errors.Is(err, before):
		return fmt.Errorf("%w: it loads and attaches LSM programs and does not ask them: put bpf into lsm= on its command line", ErrMissing)
	default:
		return fmt.Errorf("probe LSM: a socket of no protocol: %w", err)
	}
}

// attachLSM loads and attaches the LSM programs. If one of them cannot be, none is,
// and the rest does without.
func (l *Loader) attachLSM(parent cgroup.Info) error {
	spec, err := l.lsm()
	if err == nil {
		err = l.loadLSM(spec, parent)
	}
	if err == nil {
		return nil
	}
	for _, p := range programs {
		if p.attach != attachLSM {
			continue
		}
		if k := l.links[p.name]; k != nil {
			k.Close()
		}
		if prog := l.programs[p.name]; prog != nil {
			prog.Close()
		}
		delete(l.links, p.name)
		delete(l.programs, p.name)
		if err := l.pins.drop("links", p.name); err != nil {
			return &ProgramError{p.name, p.purpose, "unpin", err}
		}
	}
	l.missLSM(err)
	return nil
}

func (l *Loader) loadLSM(spec *ebpf.CollectionSpec, parent cgroup.Info) error {
	if err := l.setConstants(spec, parent); err != nil {
		return err
	}
	if err := l.loadMaps(spec, map[string]*ebpf.MapSpec{}); err != nil {
		return err
	}
	shared := l.mapsOf(spec)
	for name, m := range shared { // some are smaller, for one sandbox
		spec.Maps[name].MaxEntries = m.MaxEntries()
	}
	types, _ := l.types.Kernel()
	coll, err := ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{
		MapReplacements: shared, Cache: l.types, Programs: ebpf.ProgramOptions{KernelTypes: types}})
	if err != nil {
		return loadError(err)
	}
	defer coll.Close()
	for name := range spec.Programs {
		l.programs[name] = coll.DetachProgram(name)
	}
	for _, p := range programs {
		if p.attach != attachLSM {
			continue
		}
		made, err := link.AttachLSM(link.LSMOptions{Program: l.programs[p.name]})
		if err != nil {
			return &ProgramError{p.name, p.purpose, "attach", err}
		}
		l.links[p.name] = made
		if err := l.pins.putLink(p.name, made); err != nil {
			return &ProgramError{p.name, p.purpose, "pin", err}
		}
	}
	return nil
}

// missLSM says why there are no LSM programs.
func (l *Loader) missLSM(err error) {
	for _, p := range programs {
		if p.attach == attachLSM {
			l.missing[p.name] = err
		}
	}
}

// HasLSM reports whether LSM programs are attached, all of them: nil, or why not.
func (l *Loader) HasLSM() error {
	for _, p := range programs {
		if err := l.missing[p.name]; err != nil && p.attach == attachLSM {
			return err
		}
	}
	return nil
}

func (l *Loader) hasLSM() bool { return l.maps["unix_peers"] != nil && l.HasLSM() == nil }

// addLSM fills in the rules that LSM programs alone look at.
func (l *Loader) addLSM(id uint64, r Rules) error {
	if !l.hasLSM() {
		return l.addFiles(id, r.Files) // refused, if there are any
	}
	if err := l.addFiles(id, r.Files); err != nil {
		return err
	}
	for _, s := range r.UnixSockets {
		if err := l.maps["unix_peers"].Put(peerKey(id, s), uint32(1)); err != nil {
			return fmt.Errorf("allow unix socket: %w", err)
		}
	}
	return nil
}

// dropLSM takes them out again.
func (l *Loader) dropLSM(id uint64) error {
	if !l.hasLSM() {
		return nil
	}
	return errors.Join(l.dropUnix("unix_peers", id), l.dropFiles(id))
}

// peerKey is a path as the kernel's programs walk it, from the leaf to the root;
// unixKey has seen that it is absolute and fits.
func peerKey(id uint64, name string) bpf.KernelUnixKey {
	var k bpf.KernelUnixKey
	parts := strings.Split(strings.TrimPrefix(path.Clean(name), "/"), "/")
	slices.Reverse(parts)
	binary.NativeEndian.PutUint64(k.Sandbox[:], id)
	copy(k.Path[:], strings.Join(parts, "\x00")+"\x00")
	return k
}
