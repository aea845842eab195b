package agent

import (
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
	"kernel.org/pub/linux/libs/security/libcap/psx"
)

// kept are the capabilities that a running agent needs.
var kept = []uint{
	unix.CAP_BPF,        // bpf(2); Linux 5.8
	unix.CAP_PERFMON,    // programs that look at the kernel's memory
	unix.CAP_NET_ADMIN,  // programs on sockets
	unix.CAP_KILL,       // where there is no cgroup.kill (before Linux 5.14)
	unix.CAP_SYS_PTRACE, // namespaces of others' processes in /proc
	unix.CAP_SYS_NICE,   // to move processes where the cpuset controller is on (before Linux 6.6 whenever it is: cpuset_can_attach)
	unix.CAP_SETUID,     // to look at paths as the sandbox's user
	unix.CAP_SETGID,
}

// Drop gives up what an agent needs only to start, for good: nothing is gained
// again by executing a program.
func Drop() error {
	if err := all(unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1); err != nil {
		return fmt.Errorf("set no_new_privs: %w", err)
	}
	if err := all(unix.SYS_SETGROUPS, 0, 0); err != nil { // paths are looked at as users
		return fmt.Errorf("leave groups: %w", err)
	}
	var mask [2]uint32
	for _, c := range kept {
		mask[c/32] |= 1 << (c % 32)
	}
	for c := uintptr(0); ; c++ {
		on, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, c, 0, 0, 0)
		if err == unix.EINVAL {
			break // the kernel's last was the one before
		}
		if err != nil {
			return fmt.Errorf("read capabilities: %w", err)
		}
		if on == 0 || mask[c/32]&(1<<(c%32)) != 0 {
			continue
		}
		if err := all(unix.SYS_PRCTL, unix.PR_CAPBSET_DROP, c); err != nil {
			return fmt.Errorf("drop capability %d: %w", c, err)
		}
	}
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&hdr, &data[0]); err != nil {
		return fmt.Errorf("read capabilities: %w", err)
	}
	for i := range data { // what is not there cannot be kept
		data[i].Permitted &= mask[i]
		data[i].Effective, data[i].Inheritable = data[i].Permitted, 0
	}
	if err := all(unix.SYS_CAPSET, uintptr(unsafe.Pointer(&hdr)), uintptr(unsafe.Pointer(&data[0]))); err != nil {
		return fmt.Errorf("drop capabilities: %w", err)
	}
	return nil
}

// all makes a system call on every thread: capabilities are a thread's.
//
//go:uintptrescapes
func all(call, a, b uintptr) error {
	if _, _, errno := psx.Syscall6(call, a, b, 0, 0, 0, 0); errno != 0 {
		return os.NewSyscallError("on all threads", errno)
	}
	return nil
}
