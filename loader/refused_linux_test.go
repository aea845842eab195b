package loader

import (
	"errors"
	"os"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// A cgroup takes 64 programs of a kind (linux/bpf-cgroup.h, BPF_CGROUP_MAX_PROGS).
func TestAnAttachThatTheKernelRefusesIsAnErrorAndLeavesNothing(t *testing.T) {
	dir := parentGroup(t)
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.CGroupSockAddr, AttachType: ebpf.AttachCGroupInet6Connect, License: "GPL",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 1), asm.Return()}})
	if err != nil {
		t.Fatal(err)
	}
	defer prog.Close()
	var links []link.Link
	for range 64 {
		l, err := link.AttachCgroup(link.CgroupOptions{Path: dir, Attach: ebpf.AttachCGroupInet6Connect, Program: prog})
		if err != nil {
			t.Fatal(err)
		}
		links = append(links, l)
	}
	before := descriptors(t)
	_, err = Load(Options{Cgroup: dir})
	var about *ProgramError
	if !errors.As(err, &about) || about.Program != "connect6" || about.Op != "attach" || !errors.Is(err, unix.E2BIG) {
		t.Errorf("load: %v", err)
	}
	if after := descriptors(t); after > before {
		t.Errorf("%d descriptors are left open", after-before)
	}
	for _, l := range links {
		l.Close()
	}
	l, err := Load(Options{Cgroup: dir})
	if err != nil {
		t.Fatalf("when there is room again: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
}

func descriptors(t *testing.T) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}
