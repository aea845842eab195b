package loader

import (
	"errors"
	"os"
	"slices"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/features"

	"github.com/sallyport/sallyport/bpf"
)

// mayLack: kernels of the supported range do without optional programs.
func mayLack(name string) bool {
	return slices.ContainsFunc(programs, func(p program) bool { return p.name == name && p.optional })
}

func TestTheKernelAcceptsEveryProgram(t *testing.T) {
	needRoot(t)
	unlimitMemory()
	spec, err := bpf.LoadKernel()
	if err != nil {
		t.Fatal(err)
	}
	lsm, err := bpf.LoadLSM()
	if err != nil {
		t.Fatal(err)
	}
	if len(spec.Programs)+len(lsm.Programs) != len(programs) {
		t.Errorf("%d and %d programs in the objects, %d in the table", len(spec.Programs), len(lsm.Programs), len(programs))
	}
	for name := range spec.Programs {
		t.Run(name, func(t *testing.T) { verify(t, name, false) })
	}
	t.Run("with newer helpers", func(t *testing.T) {
		if err := features.HaveProgramHelper(ebpf.RawTracepoint, asm.FnLoop); err != nil {
			t.Skipf("not in this kernel: %v", err) // Linux 5.17
		}
		for name := range spec.Programs {
			t.Run(name, func(t *testing.T) { verify(t, name, true) })
		}
	})
}

// verify loads one program without the others.
func verify(t *testing.T, name string, loop bool) {
	spec, err := bpf.LoadKernel()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"has_loop", "has_ancestor"} {
		if err := spec.Variables[name].Set(loop); err != nil {
			t.Fatal(err)
		}
	}
	if !loop && !has(asm.FnLoop) {
		dropCallbacks(spec)
	}
	for other := range spec.Programs {
		if other != name {
			delete(spec.Programs, other)
		}
	}
	coll, err := ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{Programs: ebpf.ProgramOptions{LogLevel: level()}})
	if err == nil {
		t.Log(coll.Programs[name].VerifierLog)
		coll.Close()
		return
	}
	if mayLack(name) && !errors.As(err, new(*ebpf.VerifierError)) {
		t.Skipf("not in this kernel: %v", err)
	}
	t.Errorf("load: %v", err)
	if v := (*ebpf.VerifierError)(nil); errors.As(err, &v) {
		t.Logf("%+v", v)
	}
}

func level() ebpf.LogLevel {
	if os.Getenv("VERIFIER_LOG") != "" {
		return ebpf.LogLevelInstruction
	}
	return ebpf.LogLevelStats
}
