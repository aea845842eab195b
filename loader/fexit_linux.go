package loader

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/link"

	"github.com/sallyport/sallyport/bpf"
	"github.com/sallyport/sallyport/internal/cgroup"
)

// Programs of fexit.bpf.c that are attached to many functions, or to none.
const (
	callExit    = "call_exit"
	callRefused = "call_refused"
	nextCalls   = "refused_calls" // the table that leads from one to the other
)

// fexitHelper: without it there would be all too much to load.
const fexitHelper = asm.FnLoop

// fexitPin begins the names of the pins of fexit programs' links.
const fexitPin = "fexit_"

// fexitSpec gives the programs with the functions that they are for.
func fexitSpec(o Options, kernel *btf.Spec, calls []string) (*ebpf.CollectionSpec, error) {
	spec, err := bpf.LoadFexit()
	if err != nil {
		return nil, fmt.Errorf("read fexit programs: %w", err)
	}
	_, stay := function(kernel, -1, keepsNames)
	if err := spec.Variables["names_stay"].Set(stay != 0); err != nil {
		return nil, fmt.Errorf("set names_stay: %w", err)
	}
	aimed, covered := aimWorks(kernel, spec, stay != 0)
	var without []string
	for _, call := range calls {
		if covered[call] {
			continue
		}
		names := callFunctions(call)
		unequivocal(kernel, names)
		if f, like := function(kernel, -1, names...); like != 0 {
			aimed[callExit+"_"+call] = aimCall(spec, aimed, f, like)
		} else {
			without = append(without, names[0])
		}
	}
	if err := absent(without); err != nil {
		return nil, err
	}
	delete(spec.Maps, nextCalls)
	spec.Programs = aimed
	if o.One {
		spec.Maps["copies"].MaxEntries = 8
	}
	return spec, nil
}

// aimCall gives the program for one function. It goes on in one that the functions
// which are alike share: the kernel has no other pass on to it.
func aimCall(spec *ebpf.CollectionSpec, aimed map[string]*ebpf.ProgramSpec, f string, like btf.TypeID) *ebpf.ProgramSpec {
	table := nextOf(like)
	if spec.Maps[table] == nil {
		spec.Maps[table] = spec.Maps[nextCalls].Copy()
		spec.Maps[table].Name = table
		next := spec.Programs[callRefused].Copy()
		next.AttachTo = f // whichever of them: it is never attached
		aimed[callRefused+strings.TrimPrefix(table, nextCalls)] = next
	}
	p := spec.Programs[callExit].Copy()
	p.AttachTo = f
	for i, ins := range p.Instructions {
		if ins.Reference() == nextCalls {
			p.Instructions[i] = ins.WithReference(table)
		}
	}
	return p
}

// nextOf names the table, which is pinned, by what does not change while the kernel runs.
func nextOf(like btf.TypeID) string { return fmt.Sprintf("%s_%d", nextCalls, like) }

// aimWorks finds the functions of all works, or leaves them all to their calls:
// some calls are two works.
func aimWorks(kernel *btf.Spec, spec *ebpf.CollectionSpec, stay bool) (aimed map[string]*ebpf.ProgramSpec, covered map[string]bool) {
	aimed, covered = map[string]*ebpf.ProgramSpec{}, map[string]bool{}
	for _, w := range works {
		f, like := function(kernel, w.name, w.funcs...)
		if like == 0 {
			return map[string]*ebpf.ProgramSpec{}, map[string]bool{}
		}
		for _, name := range []string{w.program, w.entry} {
			if name != "" && (name == w.program || !stay) {
				aimed[name] = spec.Programs[name]
				aimed[name].AttachTo = f
			}
		}
		for _, call := range w.calls {
			covered[call] = true
		}
	}
	return aimed, covered
}

// findFexit gives the fexit programs if they are wanted and this kernel can have
// them; else why not.
func (l *Loader) findFexit(own *ebpf.CollectionSpec) (*ebpf.CollectionSpec, error) {
	if !l.opts.Fexit {
		return nil, fmt.Errorf("%w: left out", ErrMissing)
	}
	if !has(fexitHelper) {
		return nil, fmt.Errorf("%w: bpf_loop (Linux 5.17)", ErrMissing)
	}
	kernel, err := l.types.Kernel()
	if err != nil {
		return nil, fmt.Errorf("find functions: %w", err)
	}
	calls, err := recordedCalls(own, l.names, l.opts.Supervised)
	if err != nil {
		return nil, err
	}
	return fexitSpec(l.opts, kernel, calls)
}

// attachFexit has fexit programs record what syscall_exit does, which then goes: it
// is there until they all are, and leaves alone what they have seen. If one of them
// cannot be, none is, and syscall_exit stays.
func (l *Loader) attachFexit(parent cgroup.Info) error {
	if err := l.dropFexit(); err != nil {
		return err
	}
	if l.fexitMissing == nil {
		l.fexitMissing = l.loadFexit(l.fexitSpec, parent)
	}
	if l.fexitMissing != nil {
		return l.dropFexit()
	}
	return l.dropLink("syscall_exit")
}

// dropFexit detaches what there is of them, a predecessor's too.
func (l *Loader) dropFexit() error {
	pinned, err := l.pins.links(fexitPin)
	if err != nil {
		return err
	}
	for name := range l.links {
		if strings.HasPrefix(name, fexitPin) && !slices.Contains(pinned, name) {
			pinned = append(pinned, name)
		}
	}
	for _, name := range slices.Backward(fexitOrder(pinned)) {
		if err := l.dropLink(name); err != nil {
			return err
		}
	}
	return nil
}

// dropLink detaches one program.
func (l *Loader) dropLink(name string) error {
	if k := l.links[name]; k != nil {
		k.Close()
		delete(l.links, name)
	}
	if p := l.programs[name]; p != nil {
		p.Close()
		delete(l.programs, name)
	}
	if err := l.pins.dropLink(name); err != nil {
		return fmt.Errorf("unpin %s: %w", name, err)
	}
	return nil
}

func (l *Loader) loadFexit(spec *ebpf.CollectionSpec, parent cgroup.Info) error {
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
		return fmt.Errorf("load fexit programs: %w", missing(err))
	}
	defer coll.Close()
	for name, p := range coll.Programs {
		like, ok := strings.CutPrefix(name, callRefused)
		if !ok {
			continue
		}
		if err := l.maps[nextCalls+like].Put(uint32(0), p); err != nil {
			return fmt.Errorf("aim fexit programs: %w", err)
		}
		p.Close() // the table has it
		delete(coll.Programs, name)
	}
	for _, name := range fexitOrder(slices.Collect(maps.Keys(coll.Programs))) {
		made, err := link.AttachTracing(link.TracingOptions{Program: coll.Programs[name]})
		if err != nil {
			return fmt.Errorf("attach %s to %s: %w", name, spec.Programs[name].AttachTo, err)
		}
		l.links[fexitPin+name] = made
		l.programs[fexitPin+name] = coll.DetachProgram(name)
		if err := l.pins.putLink(fexitPin+name, made); err != nil {
			return fmt.Errorf("pin %s: %w", name, err)
		}
	}
	return nil
}

// fexitOrder is that of attaching: what keeps names comes before what wants them.
func fexitOrder(names []string) []string {
	return slices.SortedFunc(slices.Values(names), func(a, b string) int {
		ea, eb := strings.HasSuffix(a, "_entry"), strings.HasSuffix(b, "_entry")
		switch {
		case ea == eb:
			return strings.Compare(a, b)
		case ea:
			return -1
		}
		return 1
	})
}

// adoptFexit takes over fexit programs that are attached; it reports whether there
// are any.
func (l *Loader) adoptFexit() (bool, error) {
	names, err := l.pins.links(fexitPin)
	for _, name := range names {
		old, e := l.pins.link(name)
		if e != nil {
			return false, fmt.Errorf("adopt %s: %w", name, e)
		}
		l.links[name] = old
		if l.programs[name], e = programOf(old); e != nil {
			return false, fmt.Errorf("adopt %s: %w", name, e)
		}
	}
	return len(names) > 0, err
}

// HasFexit reports whether fexit programs record, instead of syscall_exit: nil, or
// why not.
func (l *Loader) HasFexit() error { return l.fexitMissing }
