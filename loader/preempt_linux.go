package loader

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/bpf"
)

// errPreempts is why fexit programs would miss something: while one is preempted, the
// kernel leaves it out for whatever else runs on that processor.
var errPreempts = errors.New("this kernel preempts its own functions, and leaves programs at them out meanwhile")

// preempts gives errPreempts, nil if this kernel does not do that, or why it is not
// known. Linux 7.0 always does.
func preempts() error {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return fmt.Errorf("ask for the kernel's version: %w", err)
	}
	return preemptsBy(unix.ByteSliceToString(u.Version[:]), preemptMode)
}

// preemptsBy decides by what the kernel says of how it was built and, if that is
// chosen when it boots, by the mode.
func preemptsBy(version string, mode func() (int32, error)) error {
	words := strings.Fields(version)
	switch {
	case slices.Contains(words, "PREEMPT_DYNAMIC"):
	case slices.Contains(words, "PREEMPT"), slices.Contains(words, "PREEMPT_RT"):
		return errPreempts
	default:
		return nil
	}
	switch m, err := mode(); {
	case err != nil:
		return fmt.Errorf("ask for the kernel's mode of preemption: %w", err)
	case m == 0, m == 1: // none, voluntary
		return nil
	}
	return errPreempts
}

// preemptMode reads the mode of the kernel that runs.
func preemptMode() (int32, error) {
	spec, err := bpf.LoadFexit()
	if err != nil {
		return 0, err
	}
	const name = "preempt_mode"
	spec.Maps, spec.Variables = nil, nil // of others
	spec.Programs = map[string]*ebpf.ProgramSpec{name: spec.Programs[name]}
	coll, err := ebpf.NewCollection(spec)
	if err != nil {
		return 0, err
	}
	defer coll.Close()
	mode, err := coll.Programs[name].Run(&ebpf.RunOptions{})
	return int32(mode), err
}
