package sandbox

import (
	"fmt"

	"golang.org/x/net/bpf"

	"github.com/sallyport/sallyport/internal/plan"
)

// Offsets in struct seccomp_data and answers, linux/seccomp.h. Of an argument
// the low half comes first: both architectures are little-endian.
const (
	dataNr   = 0
	dataArch = 4
	dataArgs = 16

	retAllow  = 0x7fff0000
	retErrno  = 0x00050000
	retNotify = 0x7fc00000
)

// seccompProgram assembles the filter for a machine of the given architecture.
// With notify, denials go to the listener of SECCOMP_FILTER_FLAG_NEW_LISTENER
// instead of being answered with their errno; what is only said not to exist
// is answered either way.
//
// The comparisons of the number come as jumps on constants, so that the kernel
// (5.11 and later) finds out once which calls always pass and does not run the
// filter for those.
func seccompProgram(s plan.Seccomp, arch plan.Arch, notify bool) ([]bpf.Instruction, error) {
	if arch == plan.ArchInvalid {
		return nil, fmt.Errorf("assemble seccomp filter: no architecture")
	}
	refuse := func(errno plan.Errno, quiet bool) bpf.Instruction {
		if notify && !quiet {
			return bpf.RetConstant{Val: retNotify}
		}
		return bpf.RetConstant{Val: retErrno | uint32(errno)}
	}
	prog := []bpf.Instruction{
		bpf.LoadAbsolute{Off: dataArch, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: arch.Audit(), SkipTrue: 1},
		refuse(plan.ENOSYS, false),
		bpf.LoadAbsolute{Off: dataNr, Size: 4},
	}
	if arch == plan.ArchAMD64 {
		prog = append(prog,
			bpf.JumpIf{Cond: bpf.JumpGreaterOrEqual, Val: plan.X32Bit, SkipFalse: 1},
			refuse(plan.ENOSYS, false))
	}
	prog = append(prog,
		bpf.JumpIf{Cond: bpf.JumpGreaterThan, Val: s.Newest, SkipFalse: 1},
		refuse(plan.ENOSYS, true))
	for _, r := range s.Rules {
		body := ruleBody(r, refuse(r.Errno, r.Quiet))
		if len(body) > 255 {
			return nil, fmt.Errorf("assemble seccomp filter: rule %s is too long", r.Name)
		}
		for _, call := range r.Calls {
			if nr, ok := arch.Syscall(call); ok {
				prog = append(prog, bpf.JumpIf{Cond: bpf.JumpEqual, Val: nr, SkipFalse: uint8(len(body))})
				prog = append(prog, body...)
			}
		}
	}
	return append(prog, bpf.RetConstant{Val: retAllow}), nil
}

// ruleBody decides a call whose number has matched; it always returns.
func ruleBody(r plan.SeccompRule, refuse bpf.Instruction) []bpf.Instruction {
	allow := bpf.Instruction(bpf.RetConstant{Val: retAllow})
	alternatives, hit, miss := r.Unless, allow, refuse
	if r.Only != nil {
		alternatives, hit, miss = r.Only, refuse, allow
	}
	var body []bpf.Instruction
	for _, checks := range alternatives {
		body = append(body, allHold(checks, hit)...)
	}
	return append(body, miss)
}

// allHold returns hit if every check holds, and else goes on behind itself.
func allHold(checks []plan.Check, hit bpf.Instruction) []bpf.Instruction {
	if len(checks) == 0 {
		return []bpf.Instruction{hit}
	}
	c, rest := checks[0], allHold(checks[1:], hit)
	code := []bpf.Instruction{bpf.LoadAbsolute{Off: dataArgs + 8*uint32(c.Arg), Size: 4}}
	if c.Mask != ^uint32(0) {
		code = append(code, bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: c.Mask})
	}
	for i, v := range c.Values {
		jump := bpf.JumpIf{Cond: bpf.JumpEqual, Val: v, SkipTrue: uint8(len(c.Values) - 1 - i)}
		if i == len(c.Values)-1 {
			jump.SkipFalse = uint8(len(rest))
		}
		code = append(code, jump)
	}
	return append(code, rest...)
}
