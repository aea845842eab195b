package loader

import (
	"bytes"
	"errors"
	"testing"

	"github.com/cilium/ebpf/btf"
)

// typesOf makes the types of a kernel.
func typesOf(t *testing.T, types ...btf.Type) *btf.Spec {
	t.Helper()
	b, err := btf.NewBuilder(types, nil)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := b.Marshal(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	spec, err := btf.LoadSpecFromReader(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	return spec
}

var (
	intType  = &btf.Int{Name: "int", Size: 4, Encoding: btf.Signed}
	charType = &btf.Int{Name: "char", Size: 1}
)

func funcOf(name, param string, of btf.Type) *btf.Func {
	return &btf.Func{Name: name, Type: &btf.FuncProto{Return: intType, Params: []btf.FuncParam{
		{Name: "dfd", Type: intType}, {Name: param, Type: &btf.Pointer{Target: of}}}}}
}

func TestAFunctionThatReadsTheNameItselfIsLeftToItsCalls(t *testing.T) {
	copied := &btf.Struct{Name: "filename", Size: 8}
	for name, tt := range map[string]struct {
		kernel []btf.Type
		want   string
	}{
		"the kernel's copy":  {[]btf.Type{funcOf("do_mkdirat", "name", copied)}, "do_mkdirat"},
		"of another name":    {[]btf.Type{funcOf("filename_mkdirat", "name", copied)}, "filename_mkdirat"},
		"the process's":      {[]btf.Type{funcOf("do_mkdirat", "pathname", &btf.Const{Type: charType})}, ""},
		"no such function":   {[]btf.Type{intType}, ""},
		"without that place": {[]btf.Type{&btf.Func{Name: "do_mkdirat", Type: &btf.FuncProto{Return: intType}}}, ""},
	} {
		if got, _ := function(typesOf(t, tt.kernel...), 1, "do_mkdirat", "filename_mkdirat"); got != tt.want {
			t.Errorf("%s: %q, want %q", name, got, tt.want)
		}
	}
}

func TestEachArchitectureNamesItsFunctions(t *testing.T) {
	for _, tt := range []struct{ arch, call, want string }{
		{"amd64", "openat", "__x64_sys_openat"}, {"arm64", "openat", "__arm64_sys_openat"},
		{"amd64", "stat", "__x64_sys_newstat"}, {"arm64", "newfstatat", "__arm64_sys_newfstatat"},
		{"amd64", "umount2", "__x64_sys_umount"}, {"arm64", "umount2", "__arm64_sys_umount"},
		{"arm64", "sendfile", "__arm64_sys_sendfile64"},
	} {
		if got := callFunctions(tt.arch, tt.call)[0]; got != tt.want {
			t.Errorf("%s, %s: %s, want %s", tt.arch, tt.call, got, tt.want)
		}
	}
}

func TestACallThatAKernelMayLackHasOneFunctionAllTheSame(t *testing.T) {
	regs := &btf.Struct{Name: "pt_regs", Size: 8}
	kernel := typesOf(t, funcOf("__x64_sys_connect", "regs", regs), funcOf("__x64_sys_connect", "__unused", regs))
	var f *btf.Func
	if err := kernel.TypeByName("__x64_sys_connect", &f); !errors.Is(err, btf.ErrMultipleMatches) {
		t.Fatalf("two of a name: %v", err)
	}
	unequivocal(kernel, []string{"__x64_sys_connect"})
	if got, like := function(kernel, -1, "__x64_sys_connect"); got == "" || like == 0 {
		t.Error("none is found")
	}
}

func TestWhatCannotBeAttachedToMustNotBeThere(t *testing.T) {
	if err := absent([]string{"no_such_function"}); err != nil {
		t.Error(err)
	}
	if err := absent([]string{"no_such_function", "vfs_read"}); !errors.Is(err, ErrMissing) {
		t.Errorf("%v, want ErrMissing", err)
	}
}

func TestSupervisedSandboxesNeedNoProgramsForWhatSeccompRefuses(t *testing.T) {
	needRoot(t)
	l, err := Load(Options{Cgroup: parentGroup(t), Supervised: true})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := l.AddSandbox(1<<40, Rules{}); err == nil {
		t.Error("a sandbox was added whose refused calls nobody records")
	}
	if err := l.AddSandbox(1<<40, Rules{NoRefused: true}); err != nil {
		t.Error(err)
	}
}
