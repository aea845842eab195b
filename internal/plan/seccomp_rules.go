package plan

import "slices"

// Numbers of the kernel's that the checks compare; linux/sched.h,
// asm-generic/ioctls.h, linux/fcntl.h and others, the same on amd64 and arm64.
const (
	afUnix    = 1
	afInet    = 2
	afInet6   = 10
	afNetlink = 16

	sockStream    = 1
	sockDgram     = 2
	sockRaw       = 3
	sockSeqpacket = 5
	sockTypeMask  = 0xf // above it are SOCK_CLOEXEC and SOCK_NONBLOCK

	protoICMP    = 1
	protoTCP     = 6
	protoUDP     = 17
	protoICMPv6  = 58
	protoMPTCP   = 262
	netlinkRoute = 0

	// CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID and NEWNET.
	// CLONE_NEWTIME is part of clone's exit signal and means nothing there.
	cloneNewAny = 0x7e020000
	// CLONE_VM, FS, FILES, SIGHAND, THREAD and SYSVSEM: what unshare(2) can
	// take apart besides namespaces.
	unshareHarmless = 0x00050f00

	tiocSTI   = 0x5412 // types into the terminal
	tiocLinux = 0x541c // pastes into a console
	tiocCons  = 0x541d // takes over console output
	tiocSetD  = 0x5423 // loads line disciplines, a rich source of kernel bugs

	fSetLease = 1024
	fSetDeleg = 1040 // Linux 6.19
)

func arg(n int, values ...uint32) Check {
	return Check{Arg: n, Mask: ^uint32(0), Values: values}
}

func bits(n int, mask uint32, values ...uint32) Check {
	return Check{Arg: n, Mask: mask, Values: values}
}

// DefaultSeccomp is the filter of every sandbox whose unix sockets are
// supervised.
//
// Left alone on purpose: landlock and seccomp, with which a payload can only
// confine itself further; personality, which concerns the caller alone;
// statmount and listmount, which tell no more than /proc does.
func DefaultSeccomp() Seccomp {
	unix := []Check{arg(0, afUnix), bits(1, sockTypeMask, sockStream, sockSeqpacket), arg(2, 0, afUnix)}
	return makeSeccomp(unix, socketpairRule, connectRule)
}

// openUnixSeccomp is the filter where every unix socket may be reached.
func openUnixSeccomp() Seccomp {
	pair := socketpairRule
	pair.Unless = [][]Check{{arg(0, afUnix)}}
	return makeSeccomp([]Check{arg(0, afUnix)}, pair)
}

func makeSeccomp(unix []Check, more ...SeccompRule) Seccomp {
	socket := socketRule
	socket.Unless = append([][]Check{unix}, socket.Unless...)
	return Seccomp{
		// rseq_slice_yield, Linux 7.0.
		Newest: 471,
		Rules: slices.Concat([]SeccompRule{socket}, more, []SeccompRule{
			{
				Name: "namespaces", Errno: EPERM, Calls: []string{"clone"},
				// The flags are the first argument on amd64 and arm64 (clone(2)).
				Unless: [][]Check{{bits(0, cloneNewAny, 0)}},
			},
			{
				Name: "namespaces", Errno: EPERM, Calls: []string{"unshare"},
				Unless: [][]Check{{bits(0, ^uint32(unshareHarmless), 0)}},
			},
			// Its flags are behind a pointer, out of a filter's sight. The C
			// library falls back to clone.
			{Name: "clone3", Errno: ENOSYS, Quiet: true, Calls: []string{"clone3"}},
			{
				// A lease makes the next to open the file wait, on the host, too,
				// for up to 45 seconds (fcntl(2)).
				Name: "lease", Errno: EPERM, Calls: []string{"fcntl"},
				Only: [][]Check{{arg(1, fSetLease, fSetDeleg)}},
			},
			{
				Name: "terminal", Errno: EPERM, Calls: []string{"ioctl"},
				Only: [][]Check{{arg(1, tiocSTI, tiocLinux, tiocCons, tiocSetD)}},
			},
		}, plainRules),
	}
}

// connectRule hands every connect(2) to the supervisor: a filter sees neither
// the address nor what kind of socket it is for.
//
// With datagram sockets refused it is the only way to a unix socket: sendto(2)
// and sendmsg(2) look at their address on those alone, a stream socket answers
// EISCONN or EOPNOTSUPP to one and a sequenced-packet socket ignores it
// (net/unix/af_unix.c).
var connectRule = SeccompRule{Name: "connect", Errno: EACCES, Supervised: true, Calls: []string{"connect"}}

// socketRule lets through what the proxy carries, what nftables refuses and
// records, and interface lists. AF_VSOCK and others are not confined by
// network namespaces at all.
var socketRule = SeccompRule{
	Name: "socket-family", Errno: EACCES, Calls: []string{"socket"},
	Unless: [][]Check{
		{arg(0, afInet, afInet6), bits(1, sockTypeMask, sockStream), arg(2, 0, protoTCP, protoMPTCP)},
		{arg(0, afInet, afInet6), bits(1, sockTypeMask, sockDgram), arg(2, 0, protoUDP)},
		{arg(0, afInet), bits(1, sockTypeMask, sockDgram), arg(2, protoICMP)},
		{arg(0, afInet6), bits(1, sockTypeMask, sockDgram), arg(2, protoICMPv6)},
		{arg(0, afNetlink), bits(1, sockTypeMask, sockDgram, sockRaw), arg(2, netlinkRoute)},
	},
}

// socketpairRule refuses datagram pairs: from either end sendmsg(2) reaches any
// datagram socket on the file system, by an address that no filter sees. The
// other types stay with their peer.
var socketpairRule = SeccompRule{
	Name: "socketpair-family", Errno: EACCES, Calls: []string{"socketpair"},
	Unless: [][]Check{{arg(0, afUnix), bits(1, sockTypeMask, sockStream, sockSeqpacket)}},
}

// plainRules refuse calls whatever their arguments. Many need a capability
// that the payload lacks anyway: here they are refused before any of their
// code runs, and the attempt can be recorded.
var plainRules = []SeccompRule{
	// Its operations pass no filter.
	{Name: "io_uring", Errno: EPERM, Calls: []string{"io_uring_setup", "io_uring_enter", "io_uring_register"}},
	{Name: "ptrace", Errno: EPERM, Calls: []string{
		"ptrace", "process_vm_readv", "process_vm_writev", "process_madvise", "kcmp", "pidfd_getfd",
	}},
	// Keyrings belong to users, not to namespaces.
	{Name: "keyring", Errno: EPERM, Calls: []string{"add_key", "request_key", "keyctl"}},
	{Name: "bpf", Errno: EPERM, Calls: []string{"bpf"}},
	{Name: "perf", Errno: EPERM, Calls: []string{"perf_event_open"}},
	{Name: "userfaultfd", Errno: EPERM, Calls: []string{"userfaultfd"}},
	{Name: "mount", Errno: EPERM, Calls: []string{
		"mount", "umount2", "pivot_root", "chroot", "open_tree", "open_tree_attr", "move_mount",
		"fsopen", "fsconfig", "fsmount", "fspick", "mount_setattr",
	}},
	// Opens by inode, past every directory that hides it.
	{Name: "file-handle", Errno: EPERM, Calls: []string{"open_by_handle_at"}},
	{Name: "namespaces", Errno: EPERM, Calls: []string{"setns"}},
	{Name: "modules", Errno: EPERM, Calls: []string{
		"init_module", "finit_module", "delete_module", "kexec_load", "kexec_file_load",
	}},
	{Name: "machine", Errno: EPERM, Calls: []string{
		"reboot", "swapon", "swapoff", "acct", "quotactl", "quotactl_fd", "syslog", "vhangup", "iopl", "ioperm",
	}},
}
