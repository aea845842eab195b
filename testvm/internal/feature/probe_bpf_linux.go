package feature

import (
	"errors"
	"fmt"
	"os"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// returns is a program that returns a constant.
func returns(value int32) asm.Instructions {
	return asm.Instructions{asm.Mov.Imm(asm.R0, value), asm.Return()}
}

// removeMemlock is for kernels before 5.11, which charge BPF's memory to this limit.
// Package rlimit of cilium/ebpf would do, but tries whether it has to when a program
// starts: a system call that every payload of the tests would be recorded with.
func removeMemlock() {
	all := unix.Rlimit{Cur: unix.RLIM_INFINITY, Max: unix.RLIM_INFINITY}
	_ = unix.Setrlimit(unix.RLIMIT_MEMLOCK, &all) // refused: what is loaded will say if it matters
}

func load(spec *ebpf.ProgramSpec) (*ebpf.Program, error) {
	removeMemlock()
	spec.License = "GPL"
	prog, err := ebpf.NewProgram(spec)
	if err != nil {
		return nil, missing("load %s: %v", spec.Name, err)
	}
	return prog, nil
}

// attachToCgroup shows that a program attaches to a cgroup of our own, where no
// process is.
func attachToCgroup(name string, attach ebpf.AttachType) error {
	prog, err := load(&ebpf.ProgramSpec{Name: name, Type: ebpf.CGroupSockAddr, AttachType: attach, Instructions: returns(1)})
	if err != nil {
		return err
	}
	defer prog.Close()
	group, err := makeCgroup()
	if err != nil {
		return err
	}
	defer group.remove()
	l, err := link.AttachCgroup(link.CgroupOptions{Path: group.dir(), Attach: attach, Program: prog})
	if err != nil {
		return missing("attach %s: %v", name, err)
	}
	return l.Close()
}

func probeCgroupConnect() (string, error) {
	return "", attachToCgroup("connect4", ebpf.AttachCGroupInet4Connect)
}

func probeCgroupUnix() (string, error) {
	return "", attachToCgroup("connect_unix", ebpf.AttachCgroupUnixConnect)
}

func probeRingBuffer() (string, error) {
	removeMemlock()
	m, err := ebpf.NewMap(&ebpf.MapSpec{Name: "probe", Type: ebpf.RingBuf, MaxEntries: 4096})
	if err != nil {
		return "", missing("make ring buffer: %v", err)
	}
	return "", m.Close()
}

// probeBPFTypedTrace counts returns from system calls, of whichever process.
func probeBPFTypedTrace() (string, error) { return "", hits(ebpf.AttachTraceRawTp, "sys_exit") }

// probeBPFExit counts the exits of the function that getsid(2) ends in.
func probeBPFExit() (string, error) { return "", hits(ebpf.AttachTraceFExit, "security_task_getsid") }

// hits shows that a tracing program runs when this process calls getsid(2).
func hits(attach ebpf.AttachType, to string) error {
	count, err := ebpf.NewMap(&ebpf.MapSpec{Name: "hits", Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 1})
	if err != nil {
		return missing("make map: %v", err)
	}
	defer count.Close()
	prog, err := load(&ebpf.ProgramSpec{
		Name: "hits", Type: ebpf.Tracing, AttachType: attach, AttachTo: to,
		Instructions: asm.Instructions{
			asm.StoreImm(asm.RFP, -4, 0, asm.Word),
			asm.LoadMapPtr(asm.R1, count.FD()),
			asm.Mov.Reg(asm.R2, asm.RFP),
			asm.Add.Imm(asm.R2, -4),
			asm.FnMapLookupElem.Call(),
			asm.JEq.Imm(asm.R0, 0, "out"),
			asm.Mov.Imm(asm.R1, 1),
			asm.StoreMem(asm.R0, 0, asm.R1, asm.DWord),
			asm.Mov.Imm(asm.R0, 0).WithSymbol("out"),
			asm.Return(),
		},
	})
	if err != nil {
		return err
	}
	defer prog.Close()
	l, err := link.AttachTracing(link.TracingOptions{Program: prog, AttachType: attach})
	if err != nil {
		return missing("attach to %s: %v", to, err)
	}
	defer l.Close()
	if _, err := unix.Getsid(os.Getpid()); err != nil { // of 0 takes a shorter way
		return fmt.Errorf("getsid: %w", err)
	}
	var seen uint64
	if err := count.Lookup(uint32(0), &seen); err != nil {
		return fmt.Errorf("look up hits: %w", err)
	}
	if seen == 0 {
		return missing("attached to %s, and never ran", to)
	}
	return nil
}

// canary is a protocol number that no address family has: the kernel answers
// EINVAL or EPROTONOSUPPORT, unless an LSM refuses before.
const canary = 0x5a11

// probeBPFLSM refuses one call that nobody makes. It has to be refused indeed:
// where bpf is missing from lsm=, the program loads, attaches and never runs.
func probeBPFLSM() (string, error) {
	detach, err := attachLSM("socket_create", asm.Instructions{
		asm.LoadMem(asm.R1, asm.R1, 16, asm.DWord), // int protocol
		asm.Mov.Imm(asm.R0, 0),
		asm.JNE.Imm(asm.R1, canary, "out"),
		asm.Mov.Imm(asm.R0, -int32(unix.EPERM)),
		asm.Return().WithSymbol("out"),
	})
	if err != nil {
		return "", err
	}
	defer detach()
	_, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM, canary)
	switch {
	case errors.Is(err, unix.EPERM):
		return "", nil
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.EPROTONOSUPPORT):
		return "", missing("attached, and never ran: is bpf in lsm=?")
	}
	return "", fmt.Errorf("socket with an unknown protocol: %v", err)
}

// probeBPFLSMUserns only attaches a program that allows: refusing would hit every
// process of the machine.
func probeBPFLSMUserns() (string, error) {
	if _, err := probeBPFLSM(); err != nil {
		return "", err
	}
	detach, err := attachLSM("userns_create", returns(0))
	if err != nil {
		return "", err
	}
	return "", detach()
}

func attachLSM(hook string, body asm.Instructions) (detach func() error, err error) {
	prog, err := load(&ebpf.ProgramSpec{Name: hook, Type: ebpf.LSM, AttachType: ebpf.AttachLSMMac, AttachTo: hook, Instructions: body})
	if err != nil {
		return nil, err
	}
	l, err := link.AttachLSM(link.LSMOptions{Program: prog})
	if err != nil {
		prog.Close()
		return nil, missing("attach %s: %v", hook, err)
	}
	return func() error { return errors.Join(l.Close(), prog.Close()) }, nil
}
