package loader

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"sync"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/features"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/bpf"
	"github.com/sallyport/sallyport/internal/cgroup"
)

// Loader is the kernel side of a machine's sandboxes.
type Loader struct {
	opts     Options
	maps     map[string]*ebpf.Map
	programs map[string]*ebpf.Program // those loaded by this process
	types    *btf.Cache               // the kernel's
	links    map[string]link.Link
	missing  map[string]error // programs that are left out, and why
	lsm      func() (*ebpf.CollectionSpec, error)
	notFexit error // why syscall_exit records; nil: fexit programs do
	told     *tally
	pins     *pins
	names    names
	procs    *processes
	boxes    boxes
	reader   *reader
	closing  sync.Once
}

// Load loads the programs, or adopts those that are pinned, and attaches them.
// It fails if any program is missing that the boundary or the record needs.
func Load(o Options) (*Loader, error) {
	if o.RingBytes == 0 {
		o.RingBytes = 4 << 20
	}
	unlimitMemory()
	types := btf.NewCache()
	go types.Kernel() // it takes its time; who needs them gets the error, too
	parent, err := cgroup.Stat(o.Cgroup)
	if err != nil {
		return nil, err
	}
	l := &Loader{opts: o, maps: map[string]*ebpf.Map{}, programs: map[string]*ebpf.Program{},
		links: map[string]link.Link{}, types: types, missing: map[string]error{}}
	l.boxes.byID = map[uint64]*box{}
	l.lsm = sync.OnceValues(func() (*ebpf.CollectionSpec, error) { return lsmSpec(o, types) })
	go l.lsm()
	if err := l.load(parent); err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

// unlimitMemory raises the limit that the memory of maps is charged to before
// Linux 5.11. The library's own way tries the kernel in every process that
// links it, from an init function.
func unlimitMemory() {
	none := unix.Rlimit{Cur: unix.RLIM_INFINITY, Max: unix.RLIM_INFINITY}
	_ = unix.Setrlimit(unix.RLIMIT_MEMLOCK, &none) // refused: making a map will say if it matters
}

func (l *Loader) load(parent cgroup.Info) error {
	spec, err := l.spec(parent)
	if err != nil {
		return err
	}
	var fexit *ebpf.CollectionSpec
	fexit, l.notFexit = l.findFexit(spec)
	about, adopted, err := l.openPins(parent, spec, fexit)
	if err != nil {
		return err
	}
	if err := l.loadMaps(spec, map[string]*ebpf.MapSpec{"told": toldSpec()}); err != nil {
		return err
	}
	exit := exitSpec(spec)
	if adopted || l.notFexit == nil {
		delete(spec.Programs, syscallExit)
	}
	if !adopted || l.pins.about.Build != about.Build {
		err = l.attachAll(spec, parent, adopted)
	} else {
		err = l.adoptAll()
	}
	if err != nil {
		return err
	}
	if adopted {
		if err := l.adoptRecorder(); err != nil {
			return err
		}
	}
	if err := l.begin(adopted); err != nil {
		return err
	}
	if !adopted && l.notFexit == nil {
		if err := l.tryFexit(fexit, exit, parent); err != nil {
			return err
		}
		if l.notFexit != nil {
			about.Fexit = 0
			if about.Recorder, err = buildOf(exit); err != nil {
				return err
			}
		}
	}
	return l.pins.finish(about)
}

// spec is that of the programs that every kernel has.
func (l *Loader) spec(parent cgroup.Info) (*ebpf.CollectionSpec, error) {
	spec, err := bpf.LoadKernel()
	if err != nil {
		return nil, fmt.Errorf("read programs: %w", err)
	}
	if l.names, err = namesOf(spec); err != nil {
		return nil, err
	}
	spec.Maps["events"].MaxEntries = l.opts.RingBytes
	if l.opts.One { // what is allocated beforehand takes a tenth of the time of loading
		spec.Maps["conns"].MaxEntries, spec.Maps["marks"].MaxEntries = 8192, 1024
	}
	if err := l.setConstants(spec, parent); err != nil {
		return nil, err
	}
	if !has(asm.FnLoop) {
		dropCallbacks(spec)
	}
	return spec, nil
}

// setConstants tells the programs of an object what does not change.
func (l *Loader) setConstants(spec *ebpf.CollectionSpec, parent cgroup.Info) error {
	for name, value := range map[string]any{
		"level": uint32(parent.Depth + 1), "parent": parent.ID, "wake_at": uint64(l.opts.RingBytes / 4),
		"has_loop": has(asm.FnLoop), "has_ancestor": has(asm.FnGetCurrentAncestorCgroupId),
	} {
		if err := spec.Variables[name].Set(value); err != nil {
			return fmt.Errorf("set %s: %w", name, err)
		}
	}
	return nil
}

// begin starts what user space keeps beside the maps.
func (l *Loader) begin(adopted bool) error {
	var err error
	if l.told, err = newTally(l.maps["counters"], l.maps["told"]); err != nil {
		return err
	}
	l.procs = newProcesses(l.maps["procs"])
	if adopted {
		if err := l.adoptSandboxes(); err != nil {
			return err
		}
	}
	l.reader, err = newReader(l, adopted)
	return err
}

// has asks for a helper of tracing programs. Without bpf_loop, or without knowing,
// the verifier unrolls loops: loading takes longer and paths have a shorter limit.
func has(helper asm.BuiltinFunc) bool {
	return features.HaveProgramHelper(ebpf.RawTracepoint, helper) == nil
}

// dropCallbacks takes out what refers to functions by address, which kernels
// before 5.13 do not know. The code that would use it is never reached.
func dropCallbacks(spec *ebpf.CollectionSpec) {
	for _, p := range spec.Programs {
		callbacks := map[string]bool{}
		for i := range p.Instructions {
			ins := &p.Instructions[i]
			if ins.IsLoadOfFunctionPointer() {
				callbacks[ins.Reference()] = true
				p.Instructions[i] = asm.LoadImm(ins.Dst, 0, asm.DWord)
			}
		}
		var kept asm.Instructions
		dropping := false
		for _, ins := range p.Instructions {
			if btf.FuncMetadata(&ins) != nil { // the first of a function
				dropping = callbacks[ins.Symbol()]
			}
			if !dropping {
				kept = append(kept, ins)
			}
		}
		p.Instructions = kept
	}
}

// loadMaps makes the maps of an object that there are not yet, or takes the
// pinned ones, and more.
func (l *Loader) loadMaps(spec *ebpf.CollectionSpec, all map[string]*ebpf.MapSpec) error {
	for name, m := range spec.Maps {
		if name != ".rodata" && l.maps[name] == nil {
			all[name] = m
		}
	}
	for name, ms := range all {
		m, err := l.pins.loadMap(name, ms)
		if err != nil {
			return fmt.Errorf("make map %s: %w", name, err)
		}
		l.maps[name] = m
	}
	return nil
}

// attachAll loads and attaches every program that this kernel has.
func (l *Loader) attachAll(spec *ebpf.CollectionSpec, parent cgroup.Info, replace bool) error {
	if err := l.loadPrograms(spec, l.mapsOf(spec)); err != nil {
		return err
	}
	if err := l.attachLSM(parent); err != nil {
		return err
	}
	dir, err := os.Open(l.opts.Cgroup)
	if err != nil {
		return fmt.Errorf("open parent cgroup: %w", err)
	}
	defer dir.Close()
	for _, p := range programs {
		prog := l.programs[p.name]
		if prog == nil || p.attach == attachLSM {
			continue
		}
		if err := l.attach(p, prog, dir, replace); err != nil {
			return err
		}
	}
	return nil
}

// mapsOf are the maps that an object's programs share with others.
func (l *Loader) mapsOf(spec *ebpf.CollectionSpec) map[string]*ebpf.Map {
	own := map[string]*ebpf.Map{}
	for name := range spec.Maps {
		if m := l.maps[name]; m != nil {
			own[name] = m
		}
	}
	return own
}

// loadPrograms loads all programs. If the kernel refuses one that may be
// missing, it is left out; the verifier is not run twice for nothing.
func (l *Loader) loadPrograms(spec *ebpf.CollectionSpec, own map[string]*ebpf.Map) error {
	for _, p := range programs {
		if !p.optional || p.attach != attachCgroup || spec.Programs[p.name] == nil {
			continue
		}
		if err := probeAttach(p, l.opts.Cgroup, spec.Programs[p.name].AttachType); err != nil {
			if !errors.Is(err, ErrMissing) {
				return &ProgramError{p.name, p.purpose, "probe", err}
			}
			l.missing[p.name] = err
			delete(spec.Programs, p.name)
		}
	}
	// The kernel's own types, not its modules': ours are none of theirs, and
	// cilium/ebpf (0.22) decodes a module's types over the kernel's without the
	// kernel's lock, so that two loads at a time die wherever there are modules.
	types, _ := l.types.Kernel() // none: what wants them says why
	var wait sync.WaitGroup
	parts := halves(spec)
	collections, errs := make([]*ebpf.Collection, len(parts)), make([]error, len(parts))
	for i, part := range parts {
		wait.Go(func() {
			collections[i], errs[i] = ebpf.NewCollectionWithOptions(part, ebpf.CollectionOptions{
				MapReplacements: own, Cache: l.types, Programs: ebpf.ProgramOptions{KernelTypes: types}})
		})
	}
	wait.Wait()
	for i, coll := range collections {
		if coll == nil {
			continue
		}
		for name := range parts[i].Programs {
			l.programs[name] = coll.DetachProgram(name)
		}
		coll.Close()
	}
	for _, err := range errs {
		if err != nil {
			return loadError(err)
		}
	}
	return nil
}

// halves splits the programs into two parts of the same size: most of the time is
// the verifier's, which takes several at once.
func halves(spec *ebpf.CollectionSpec) []*ebpf.CollectionSpec {
	names := slices.SortedFunc(maps.Keys(spec.Programs), func(a, b string) int {
		return len(spec.Programs[b].Instructions) - len(spec.Programs[a].Instructions)
	})
	parts := []*ebpf.CollectionSpec{spec.Copy(), spec.Copy()}
	var sizes [2]int
	for _, name := range names { // the longest first, to where there is less
		to := 0
		if sizes[1] < sizes[0] {
			to = 1
		}
		sizes[to] += len(spec.Programs[name].Instructions)
		delete(parts[1-to].Programs, name)
	}
	return parts
}

// loadError finds the program that an error is about.
func loadError(err error) error {
	for _, p := range programs {
		if wrapped := fmt.Sprintf("program %s:", p.name); len(err.Error()) >= len(wrapped) && err.Error()[:len(wrapped)] == wrapped {
			return &ProgramError{p.name, p.purpose, "load", errors.Unwrap(err)}
		}
	}
	return fmt.Errorf("load programs: %w", err)
}

// attach attaches one program, or puts it in the place of the pinned one.
func (l *Loader) attach(p program, prog *ebpf.Program, dir *os.File, replace bool) error {
	if replace && p.attach == attachCgroup {
		if old, err := l.pins.link(p.name); err == nil {
			if err := old.Update(prog); err != nil {
				old.Close()
				return &ProgramError{p.name, p.purpose, "replace", err}
			}
			l.links[p.name] = old
			return nil
		}
	}
	var made link.Link
	var err error
	if p.attach == attachCgroup {
		made, err = link.AttachCgroup(link.CgroupOptions{Path: dir.Name(), Attach: attachType(p.name), Program: prog})
	} else {
		made, err = link.AttachTracing(link.TracingOptions{Program: prog})
	}
	if err != nil {
		return &ProgramError{p.name, p.purpose, "attach", err}
	}
	l.links[p.name] = made
	if err := l.pins.putLink(p.name, made); err != nil {
		return &ProgramError{p.name, p.purpose, "pin", err}
	}
	return nil
}

// adoptAll takes over what is attached already, and the maps of LSM programs.
func (l *Loader) adoptAll() error {
	if err := l.adoptLinks(); err != nil {
		return err
	}
	lsm, err := l.lsm()
	if err != nil {
		l.missLSM(err)
		return nil
	}
	return l.loadMaps(lsm, map[string]*ebpf.MapSpec{})
}

// adoptLinks takes over what is attached already.
func (l *Loader) adoptLinks() error {
	for _, p := range programs {
		if p.name == syscallExit { // see adoptRecorder
			continue
		}
		old, err := l.pins.link(p.name)
		switch {
		case err == nil:
			l.links[p.name] = old
			if l.programs[p.name], err = programOf(old); err != nil {
				return &ProgramError{p.name, p.purpose, "adopt", err}
			}
		case p.optional && errors.Is(err, os.ErrNotExist):
			l.missing[p.name] = ErrMissing
		default:
			return &ProgramError{p.name, p.purpose, "adopt", err}
		}
	}
	return nil
}

func programOf(k link.Link) (*ebpf.Program, error) {
	info, err := k.Info()
	if err != nil {
		return nil, err
	}
	return ebpf.NewProgramFromID(info.Program)
}

// Has reports whether a program works on this kernel: nil, or why it is left out.
func (l *Loader) Has(program string) error { return l.missing[program] }

// Close ends reading. What is pinned stays; everything else goes.
func (l *Loader) Close() error {
	var errs []error
	l.closing.Do(func() {
		if l.reader != nil {
			errs = append(errs, l.reader.close())
		}
		l.boxes.close()
		for _, k := range l.links {
			errs = append(errs, k.Close())
		}
		for _, p := range l.programs {
			errs = append(errs, p.Close())
		}
		for _, m := range l.maps {
			errs = append(errs, m.Close())
		}
		errs = append(errs, l.pins.close())
	})
	return errors.Join(errs...)
}

// Detach ends enforcement and recording, and removes every pin.
func (l *Loader) Detach() error {
	err := l.pins.remove()
	return errors.Join(err, l.Close())
}
