package loader

import (
	"errors"
	"fmt"
	"runtime"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/bpf"
	"github.com/sallyport/sallyport/internal/cgroup"
)

// Programs of fexit.bpf.c that are attached to many functions, or to none.
const (
	callExit    = "call_exit"
	callRefused = "call_refused"
	nextCalls   = "fexit_next" // the table that leads from one to the other
)

// fexitHelper: without it there would be all too much to load.
const fexitHelper = asm.FnLoop

// fexitPin begins the names of what is theirs alone: links, programs and maps.
const fexitPin = "fexit_"

// fexitSpec gives the programs with the functions that they are for.
func fexitSpec(kernel *btf.Spec, calls []string) (*ebpf.CollectionSpec, error) {
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
		names := callFunctions(runtime.GOARCH, call)
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
	for name, f := range answerers {
		if _, like := function(kernel, -1, f); like == 0 {
			return nil, fmt.Errorf("%w: types of %s", ErrMissing, f)
		}
		aimed[name] = spec.Programs[name]
		aimed[name].AttachTo = f
	}
	delete(spec.Maps, nextCalls)
	spec.Programs = aimed
	if stay != 0 {
		spec.Maps["fexit_copies"].MaxEntries = 1 // nothing uses it
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
	if l.opts.Fexit == FexitNever {
		return nil, errors.New("left out")
	}
	if !has(fexitHelper) {
		return nil, fmt.Errorf("%w: bpf_loop (Linux 5.17)", ErrMissing)
	}
	if l.opts.Fexit == FexitSafe {
		if err := preempts(); err != nil {
			return nil, err
		}
	}
	kernel, err := l.types.Kernel()
	if err != nil {
		return nil, fmt.Errorf("find functions: %w", err)
	}
	calls, err := recordedCalls(own, l.names, l.opts.Supervised)
	if err != nil {
		return nil, err
	}
	return fexitSpec(kernel, calls)
}

// tryFexit has fexit programs record, all of them, if each does; else, with the
// reason in notFexit, the program of another object does.
func (l *Loader) tryFexit(fexit, exit *ebpf.CollectionSpec, parent cgroup.Info) error {
	if l.notFexit = l.loadFexit(fexit, parent); l.notFexit == nil {
		l.notFexit = l.proveFexit()
	}
	if l.notFexit == nil {
		return nil
	}
	if err := l.dropFexit(); err != nil {
		return err
	}
	if err := l.loadPrograms(exit, l.mapsOf(exit)); err != nil {
		return err
	}
	for _, p := range programs {
		if p.name == syscallExit {
			return l.attach(p, l.programs[p.name], nil, false)
		}
	}
	return nil
}

// dropFexit takes away what there is of them.
func (l *Loader) dropFexit() error {
	var errs []error
	for name, k := range l.links {
		if strings.HasPrefix(name, fexitPin) {
			errs = append(errs, k.Close(), l.pins.drop("links", name))
			delete(l.links, name)
		}
	}
	for name, p := range l.programs {
		if strings.HasPrefix(name, fexitPin) {
			errs = append(errs, p.Close())
			delete(l.programs, name)
		}
	}
	for name, m := range l.maps {
		if strings.HasPrefix(name, fexitPin) {
			errs = append(errs, m.Close(), l.pins.drop("maps", name))
			delete(l.maps, name)
		}
	}
	return errors.Join(errs...)
}

func (l *Loader) loadFexit(spec *ebpf.CollectionSpec, parent cgroup.Info) error {
	if err := l.setConstants(spec, parent); err != nil {
		return err
	}
	if err := l.loadMaps(spec, map[string]*ebpf.MapSpec{}); err != nil {
		return err
	}
	types, _ := l.types.Kernel()
	coll, err := ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{
		MapReplacements: l.mapsOf(spec), Cache: l.types, Programs: ebpf.ProgramOptions{KernelTypes: types}})
	switch {
	case errors.Is(err, unix.EPERM): // the library goes on about memory
		return fmt.Errorf("load fexit programs: %w", unix.EPERM)
	case err != nil:
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
	for name := range coll.Programs {
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
