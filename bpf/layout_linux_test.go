package bpf

import (
	"bytes"
	"debug/elf"
	"errors"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
)

// layouts are the types that C and Go share, by their name in C.
var layouts = map[string]any{
	"sandbox": KernelSandbox{}, "who": KernelWho{}, "tally_key": KernelTallyKey{}, "tally": KernelTally{},
	"denial": KernelDenial{}, "gone": KernelGone{}, "proc": KernelProc{}, "conn_key": KernelConnKey{},
	"conn": KernelConn{}, "unix_key": KernelUnixKey{},
}

// objects are those of both architectures, whichever runs the test.
func objects(t *testing.T) map[string]*ebpf.CollectionSpec {
	t.Helper()
	out := map[string]*ebpf.CollectionSpec{}
	for _, name := range []string{"kernel_x86_bpfel.o", "kernel_arm64_bpfel.o", "lsm_x86_bpfel.o", "lsm_arm64_bpfel.o",
		"fexit_x86_bpfel.o", "fexit_arm64_bpfel.o"} {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if out[name], err = ebpf.LoadCollectionSpecFromReader(bytes.NewReader(b)); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

func TestCAndGoAgreeOnEveryLayout(t *testing.T) {
	for object, spec := range objects(t) {
		for name, v := range layouts {
			var c *btf.Struct
			err := spec.Types.TypeByName(name, &c)
			if errors.Is(err, btf.ErrNotFound) && !strings.HasPrefix(object, "kernel_") {
				continue // it has no use for it
			}
			if err != nil {
				t.Errorf("%s: %v", object, err)
				continue
			}
			compare(t, object+" "+name, c, reflect.TypeOf(v))
		}
	}
}

// compare checks offsets, and that no byte is padding: keys are compared as
// bytes, and records leave the kernel.
func compare(t *testing.T, name string, c *btf.Struct, g reflect.Type) {
	t.Helper()
	if uintptr(c.Size) != g.Size() {
		t.Errorf("%s: %d bytes in C, %d in Go", name, c.Size, g.Size())
	}
	end := uint32(0)
	for _, m := range c.Members {
		f, ok := g.FieldByNameFunc(func(s string) bool {
			return strings.EqualFold(s, strings.ReplaceAll(m.Name, "_", ""))
		})
		size, err := btf.Sizeof(m.Type)
		if err != nil {
			t.Fatal(err)
		}
		if at := m.Offset.Bytes(); !ok || uintptr(at) != f.Offset || uintptr(size) != f.Type.Size() {
			t.Errorf("%s.%s: offset %d, size %d in C; %+v in Go", name, m.Name, at, size, f)
		} else if at != end {
			t.Errorf("%s: %d bytes of padding before %s", name, at-end, m.Name)
		}
		end = m.Offset.Bytes() + uint32(size)
	}
	if end != c.Size {
		t.Errorf("%s: %d bytes of padding at the end", name, c.Size-end)
	}
}

func TestTheLicenceIsTheKernels(t *testing.T) {
	for object, spec := range objects(t) {
		for name, p := range spec.Programs {
			if p.License != "GPL" {
				t.Errorf("%s: %s has licence %q", object, name, p.License)
			}
		}
		f, err := elf.Open(object)
		if err != nil {
			t.Fatal(err)
		}
		if f.Section(".debug_info") != nil {
			t.Errorf("%s: debug information was not stripped", object)
		}
		f.Close()
	}
	files, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if !strings.HasSuffix(f.Name(), ".h") && !strings.HasSuffix(f.Name(), ".c") {
			continue
		}
		if b, err := os.ReadFile(f.Name()); err != nil || !bytes.Contains(b, []byte("SPDX-License-Identifier: GPL-2.0-only")) {
			t.Errorf("%s: no licence in it (%v)", f.Name(), err)
		}
	}
}
