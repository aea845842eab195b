package loader

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"

	"github.com/sallyport/sallyport/internal/cgroup"
)

// syscallExit records where fexit programs do not.
const syscallExit = "syscall_exit"

// exitSpec is that of the program which records where fexit programs do not.
func exitSpec(spec *ebpf.CollectionSpec) *ebpf.CollectionSpec {
	one := *spec
	one.Programs = map[string]*ebpf.ProgramSpec{syscallExit: spec.Programs[syscallExit]}
	return &one
}

// openPins says what these programs are, and whether there are some to adopt. Their
// recorder is kept then, since sandboxes may depend on it.
func (l *Loader) openPins(parent cgroup.Info, spec, fexit *ebpf.CollectionSpec) (a about, adopted bool, err error) {
	if l.opts.Pin == "" {
		return a, false, nil
	}
	lsm, _ := l.lsm() // none: why is said with its programs
	if a, err = aboutOf(parent, l.opts.RingBytes, spec, lsm, fexit); err != nil {
		return a, false, err
	}
	if l.pins, adopted, err = openPins(l.opts.Pin, a); err != nil || !adopted {
		return a, false, err
	}
	a.Fexit, a.Recorder = l.pins.about.Fexit, l.pins.about.Recorder
	switch {
	case a.Fexit != 0:
		l.notFexit = nil
	case l.notFexit == nil:
		l.notFexit = ErrKept
	}
	return a, true, nil
}

// adoptRecorder takes over what is attached, whatever it is.
func (l *Loader) adoptRecorder() error {
	names := []string{syscallExit}
	if l.notFexit == nil {
		var err error
		if names, err = l.pins.links(fexitPin); err != nil {
			return err
		}
	}
	for _, name := range names {
		k, err := l.pins.link(name)
		if err != nil {
			return fmt.Errorf("adopt %s: %w", name, err)
		}
		l.links[name] = k
		if l.programs[name], err = programOf(k); err != nil {
			return fmt.Errorf("adopt %s: %w", name, err)
		}
	}
	return nil
}

// ErrKept is why sandboxes that were adopted are recorded otherwise than is wanted: a
// change would miss something that they are refused, or record it twice.
var ErrKept = errors.New("sandboxes that are there are recorded so")

// Recorder says what sees system calls refused, fexit or sys_exit, and, if that is not
// what Options.Fexit asks for, why.
func (l *Loader) Recorder() (string, error) {
	switch wanted := l.opts.Fexit != FexitNever; {
	case l.notFexit == nil && wanted:
		return "fexit", nil
	case l.notFexit == nil:
		return "fexit", ErrKept
	case wanted:
		return "sys_exit", l.notFexit
	}
	return "sys_exit", nil
}
