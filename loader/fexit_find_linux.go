package loader

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"

	"github.com/sallyport/sallyport/bpf"
)

// work is what the kernel does with a name, for some system calls and for io_uring.
type work struct {
	program string   // which sees the end of it
	entry   string   // which keeps the name, where it does not stay until then
	funcs   []string // which of them there is depends on the kernel
	name    int      // the argument
	calls   []string // that do nothing else with the name
}

var works = []work{
	{"open_exit", "", []string{"do_filp_open", "do_file_open"}, 1, []string{"open", "creat", "openat", "openat2"}},
	{"mkdir_exit", "mkdir_entry", []string{"do_mkdirat", "filename_mkdirat"}, 1, []string{"mkdir", "mkdirat"}},
	{"unlink_exit", "unlink_entry", []string{"do_unlinkat", "filename_unlinkat"}, 1, []string{"unlink", "unlinkat"}},
	{"rmdir_exit", "rmdir_entry", []string{"do_rmdir", "filename_rmdir"}, 1, []string{"rmdir", "unlinkat"}},
	{"rename_exit", "rename_entry", []string{"do_renameat2", "filename_renameat2"}, 1, []string{"rename", "renameat", "renameat2"}},
	{"link_exit", "link_entry", []string{"do_linkat", "filename_linkat"}, 1, []string{"link", "linkat"}},
	{"symlink_exit", "symlink_entry", []string{"do_symlinkat", "filename_symlinkat"}, 2, []string{"symlink", "symlinkat"}},
	{"statx_exit", "", []string{"do_statx"}, 1, []string{"statx"}},
}

// answerers are programs with the functions in which a call waits for seccomp's
// supervisor.
var answerers = map[string]string{
	answerExit:               "wait_for_completion_interruptible",
	answerExit + "_killable": "wait_for_completion_killable", // since Linux 5.19, at will
}

// answerExit sees calls that are answered.
const answerExit = "answer_exit"

// keepsNames is a function of kernels whose functions leave names to their callers.
const keepsNames = "filename_mkdirat"

// functionOf are calls whose functions have other names (man syscalls(2)).
var functionOf = map[string]string{"stat": "newstat", "lstat": "newlstat", "umount2": "umount", "sendfile": "sendfile64"}

// callFunctions are names of the kernel's function for a system call. One without
// arguments has the second, too, and types may know that one alone.
func callFunctions(arch, call string) []string {
	prefix := map[string]string{"amd64": "__x64_sys_", "arm64": "__arm64_sys_"}[arch]
	if other, ok := functionOf[call]; ok {
		call = other
	}
	return []string{prefix + call, "__do_sys_" + call}
}

// unequivocal leaves one type of a system call's function where there are two: that
// of the function, and that of what stands in for it where a kernel is built without,
// which differ in their argument's name. The library refuses to choose; the kernel
// goes by the name.
func unequivocal(kernel *btf.Spec, names []string) {
	for _, name := range names {
		types, _ := kernel.AnyTypesByName(name)
		var kept *btf.Func
		for _, t := range types {
			f, ok := t.(*btf.Func)
			switch {
			case !ok:
			case kept == nil:
				kept = f
			default:
				f.Name += " of another unit"
			}
		}
	}
}

// function finds one that programs can be attached to, and what it is like; 0: there
// is none. With name ≥ 0, that argument must be a name that the kernel has copied.
func function(kernel *btf.Spec, name int, candidates ...string) (found string, like btf.TypeID) {
	for _, c := range candidates {
		var f *btf.Func
		if err := kernel.TypeByName(c, &f); err != nil {
			continue
		}
		proto, ok := f.Type.(*btf.FuncProto)
		if !ok || name >= len(proto.Params) || name >= 0 && !isFilename(proto.Params[name].Type) {
			continue
		}
		if like, err := kernel.TypeID(proto); err == nil {
			return c, like
		}
	}
	return "", 0
}

func isFilename(t btf.Type) bool {
	p, ok := btf.UnderlyingType(t).(*btf.Pointer)
	if !ok {
		return false
	}
	s, ok := btf.UnderlyingType(p.Target).(*btf.Struct)
	return ok && s.Name == "filename"
}

// absent: what cannot be attached to must not be in the kernel at all.
func absent(names []string) error {
	if len(names) == 0 {
		return nil
	}
	b, err := os.ReadFile("/proc/kallsyms")
	if err != nil {
		return fmt.Errorf("find functions: %w", err)
	}
	for _, name := range names {
		if bytes.Contains(b, []byte(" "+name+"\n")) {
			return fmt.Errorf("%w: types of %s", ErrMissing, name)
		}
	}
	return nil
}

// recordedCalls are the system calls whose refusal is recorded; with supervised,
// without those that seccomp refuses and records.
func recordedCalls(spec *ebpf.CollectionSpec, n names, supervised bool) ([]string, error) {
	content := spec.Variables["calls"].Value
	table := make([]bpf.KernelCall, len(content)/binary.Size(bpf.KernelCall{}))
	if err := binary.Read(bytes.NewReader(content), binary.NativeEndian, &table); err != nil {
		return nil, fmt.Errorf("find system calls: %w", err)
	}
	const absent = 511
	var out []string
	for nr, c := range table {
		if c.Id != 0 && nr != absent && !(supervised && c.Refused != 0) {
			out = append(out, n.of(c.Id))
		}
	}
	return out, nil
}
