package sandbox

import (
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"testing"

	"golang.org/x/net/bpf"

	"github.com/sallyport/sallyport/internal/plan"
)

type seccompCall struct {
	audit, nr uint32
	args      [6]uint64
}

// data is struct seccomp_data for the VM, which reads big-endian words where
// the kernel reads the machine's own.
func (c seccompCall) data() []byte {
	b := make([]byte, 64)
	binary.BigEndian.PutUint32(b[0:], c.nr)
	binary.BigEndian.PutUint32(b[4:], c.audit)
	for i, a := range c.args {
		binary.BigEndian.PutUint32(b[16+8*i:], uint32(a))
		binary.BigEndian.PutUint32(b[20+8*i:], uint32(a>>32))
	}
	return b
}

type seccompVM struct {
	arch   plan.Arch
	notify bool
	vm     *bpf.VM
}

func seccompVMs(t testing.TB) []seccompVM {
	t.Helper()
	var vms []seccompVM
	for _, arch := range []plan.Arch{plan.ArchAMD64, plan.ArchARM64} {
		for _, notify := range []bool{false, true} {
			prog, err := seccompProgram(plan.DefaultSeccomp(), arch, notify)
			if err != nil {
				t.Fatal(err)
			}
			vm, err := bpf.NewVM(prog)
			if err != nil {
				t.Fatal(err)
			}
			vms = append(vms, seccompVM{arch, notify, vm})
		}
	}
	return vms
}

func (v seccompVM) run(t testing.TB, c seccompCall) uint32 {
	t.Helper()
	got, err := v.vm.Run(c.data())
	if err != nil {
		t.Fatal(err)
	}
	return uint32(got)
}

// oracle says by plain words what the filter must return; only the numbers
// come from the same table.
func (v seccompVM) oracle(c seccompCall) uint32 {
	deny := func(errno uint32) uint32 {
		if v.notify {
			return 0x7fc00000
		}
		return 0x00050000 + errno
	}
	const allow, absent = 0x7fff0000, 0x00050000 + 38
	amd64 := v.arch == plan.ArchAMD64
	if amd64 && c.audit != 0xc000003e || !amd64 && c.audit != 0xc00000b7 {
		return deny(38)
	}
	if amd64 && c.nr >= 1<<30 {
		return deny(38)
	}
	if c.nr > 471 {
		return absent
	}
	is := func(names ...string) bool {
		return slices.ContainsFunc(names, func(n string) bool {
			nr, ok := v.arch.Syscall(n)
			return ok && nr == c.nr
		})
	}
	a0, a1, a2 := uint32(c.args[0]), uint32(c.args[1]), uint32(c.args[2])
	switch {
	case is("socket"):
		typ, inet := a1%16, a0 == 2 || a0 == 10
		switch {
		case inet && typ == 1 && (a2 == 0 || a2 == 6 || a2 == 262),
			inet && typ == 2 && (a2 == 0 || a2 == 17),
			a0 == 2 && typ == 2 && a2 == 1, a0 == 10 && typ == 2 && a2 == 58,
			a0 == 16 && (typ == 2 || typ == 3) && a2 == 0,
			a0 == 1 && (typ == 1 || typ == 5) && a2 <= 1:
			return allow
		}
		return deny(13)
	case is("socketpair"):
		if a0 == 1 && (a1%16 == 1 || a1%16 == 5) {
			return allow
		}
		return deny(13)
	case is("connect"):
		return deny(13)
	case is("clone"):
		for _, bit := range []int{17, 25, 26, 27, 28, 29, 30} {
			if a0>>bit&1 == 1 {
				return deny(1)
			}
		}
		return allow
	case is("unshare"):
		for bit := range 32 {
			if a0>>bit&1 == 1 && !slices.Contains([]int{8, 9, 10, 11, 16, 18}, bit) {
				return deny(1)
			}
		}
		return allow
	case is("clone3"):
		return absent
	case is("fcntl"):
		if a1 == 1024 || a1 == 1024+16 {
			return deny(1)
		}
		return allow
	case is("ioctl"):
		if a1 == 0x5412 || a1 == 0x541c || a1 == 0x541d || a1 == 0x5423 {
			return deny(1)
		}
		return allow
	case is("io_uring_setup", "io_uring_enter", "io_uring_register", "ptrace", "process_vm_readv",
		"process_vm_writev", "process_madvise", "kcmp", "pidfd_getfd", "add_key", "request_key", "keyctl",
		"bpf", "perf_event_open", "userfaultfd", "mount", "umount2", "pivot_root", "chroot", "open_tree",
		"open_tree_attr", "move_mount", "fsopen", "fsconfig", "fsmount", "fspick", "mount_setattr",
		"open_by_handle_at", "setns", "init_module", "finit_module", "delete_module", "kexec_load",
		"kexec_file_load", "reboot", "swapon", "swapoff", "acct", "quotactl", "quotactl_fd", "syslog",
		"vhangup", "iopl", "ioperm"):
		return deny(1)
	}
	return allow
}

// planned is the plan's own decision as a return value.
func (v seccompVM) planned(c seccompCall) uint32 {
	r, refused := plan.DefaultSeccomp().Decide(v.arch, c.audit, c.nr, c.args)
	switch {
	case !refused:
		return retAllow
	case v.notify && !r.Quiet:
		return retNotify
	}
	return retErrno | uint32(r.Errno)
}

func (v seccompVM) check(t testing.TB, c seccompCall) {
	t.Helper()
	got, want, planned := v.run(t, c), v.oracle(c), v.planned(c)
	if got != want || got != planned {
		t.Errorf("arch %d, notify %v, call %+v: filter %#x, oracle %#x, plan %#x", v.arch, v.notify, c, got, want, planned)
	}
}

// randomCall prefers values near those that matter.
func randomCall(r *rand.Rand) seccompCall {
	audits := []uint32{0xc000003e, 0xc000003e, 0xc000003e, 0xc00000b7, 0xc00000b7, 0xc00000b7, 0x40000003, r.Uint32()}
	c := seccompCall{audit: audits[r.IntN(len(audits))], nr: r.Uint32N(480)}
	switch r.IntN(20) {
	case 0:
		c.nr = r.Uint32()
	case 1:
		c.nr |= 0x40000000
	}
	near := []uint32{0, 1, 2, 3, 5, 6, 10, 16, 17, 38, 40, 58, 132, 136, 262, 0x400, 0x401, 0x410,
		0x5412, 0x5413, 0x541c, 0x541d, 0x5423, 0x7e020000, 0x50f00, 0x801, 0x80802}
	for i := range c.args {
		v := near[r.IntN(len(near))]
		switch r.IntN(6) {
		case 0:
			v = r.Uint32()
		case 1:
			v = 1 << r.IntN(32)
		}
		c.args[i] = uint64(v)
		if r.IntN(3) == 0 {
			c.args[i] |= uint64(r.Uint32()) << 32
		}
	}
	return c
}

func TestFilterAgreesWithOracleOnRandomCalls(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	vms := seccompVMs(t)
	for range 50_000 {
		c := randomCall(r)
		for _, v := range vms {
			v.check(t, c)
		}
	}
}

func TestFilterAgreesWithOracleOnEveryNumber(t *testing.T) {
	for _, v := range seccompVMs(t) {
		for nr := range uint32(600) {
			for _, n := range []uint32{nr, nr | 0x40000000, -nr} {
				v.check(t, seccompCall{audit: v.arch.Audit(), nr: n})
			}
		}
	}
}

func TestFilterAgreesWithOracleOnEverySocket(t *testing.T) {
	for _, v := range seccompVMs(t) {
		nr, _ := v.arch.Syscall("socket")
		for family := range uint64(48) {
			for typ := range uint64(17) {
				for _, proto := range []uint64{0, 1, 2, 3, 6, 12, 16, 17, 33, 58, 132, 136, 255, 256, 262, 263} {
					v.check(t, seccompCall{v.arch.Audit(), nr, [6]uint64{family, typ | 0x80000, proto}})
				}
			}
		}
	}
}

// Linux 5.11 and later evaluate the filter once for every number and do not
// run it for those that always pass (seccomp_is_const_allow in
// kernel/seccomp.c); all it looks at are the number and the architecture.
func TestFilterLeavesOrdinaryCallsToTheKernelsCache(t *testing.T) {
	for _, v := range seccompVMs(t) {
		prog, err := seccompProgram(plan.DefaultSeccomp(), v.arch, v.notify)
		if err != nil {
			t.Fatal(err)
		}
		named := map[uint32]bool{}
		for _, r := range plan.DefaultSeccomp().Rules {
			for _, call := range r.Calls {
				if nr, ok := v.arch.Syscall(call); ok {
					named[nr] = true
				}
			}
		}
		for nr := range plan.DefaultSeccomp().Newest + 1 {
			if got := alwaysPasses(prog, v.arch.Audit(), nr); got == named[nr] {
				t.Errorf("arch %d: call %d always passes: %v", v.arch, nr, got)
			}
		}
	}
}

// alwaysPasses follows prog as the kernel's emulation does.
func alwaysPasses(prog []bpf.Instruction, audit, nr uint32) bool {
	var a uint32
	for i := 0; i < len(prog); i++ {
		switch ins := prog[i].(type) {
		case bpf.LoadAbsolute:
			switch ins.Off {
			case dataNr:
				a = nr
			case dataArch:
				a = audit
			default:
				return false
			}
		case bpf.JumpIf:
			hit := map[bpf.JumpTest]bool{
				bpf.JumpEqual: a == ins.Val, bpf.JumpGreaterThan: a > ins.Val, bpf.JumpGreaterOrEqual: a >= ins.Val,
			}[ins.Cond]
			if hit {
				i += int(ins.SkipTrue)
			} else {
				i += int(ins.SkipFalse)
			}
		case bpf.RetConstant:
			return ins.Val == retAllow
		default:
			return false
		}
	}
	return false
}

func TestFilterNeedsAnArchitectureAndShortRules(t *testing.T) {
	if _, err := seccompProgram(plan.DefaultSeccomp(), plan.ArchInvalid, false); err == nil {
		t.Error("a filter for no architecture")
	}
	long := plan.Check{Mask: ^uint32(0), Values: make([]uint32, 300)}
	s := plan.Seccomp{Rules: []plan.SeccompRule{{Name: "long", Calls: []string{"bpf"}, Unless: [][]plan.Check{{long}}}}}
	if _, err := seccompProgram(s, plan.ArchAMD64, false); err == nil {
		t.Error("a jump across more than 255 instructions")
	}
}

func FuzzFilter(f *testing.F) {
	f.Add(uint32(0xc000003e), uint32(41), uint64(2), uint64(1), uint64(0))
	f.Add(uint32(0xc00000b7), uint32(198), uint64(40)|1<<40, uint64(1), uint64(0))
	f.Add(uint32(0xc000003e), uint32(0x40000029), uint64(2), uint64(1), uint64(0))
	f.Add(uint32(0xc000003e), uint32(56), uint64(0x10000011), uint64(0), uint64(0))
	f.Fuzz(func(t *testing.T, audit, nr uint32, a0, a1, a2 uint64) {
		for _, v := range seccompVMs(t) {
			v.check(t, seccompCall{audit, nr, [6]uint64{a0, a1, a2}})
			v.check(t, seccompCall{v.arch.Audit(), nr, [6]uint64{a0, a1, a2}})
		}
	})
}
