package sandbox

import (
	"fmt"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/internal/plan"
)

// stage1Name is the name of stage 1 (PR_SET_NAME, prctl(2)) until it is
// bubblewrap.
const stage1Name = "sallyport-1"

// stage1Flags make stage 1, and later bubblewrap, process 1 of a pid namespace:
// whatever it has started dies with it. bubblewrap alone does not see to that:
// its child asks for a death signal only just before it executes stage 2, and
// until then waits for ever for a parent that was killed.
const stage1Flags = unix.CLONE_NEWUSER | unix.CLONE_NEWNET | unix.CLONE_NEWPID | unix.CLONE_NEWNS

// stageEnv is the environment of stage 2, and of bubblewrap, whose own stays
// readable in /proc: nothing of the user's. Stage 2 does one thing at a time: a
// runtime with one processor and no garbage collection starts faster.
var stageEnv = []string{"GOMAXPROCS=1", "GOGC=off"}

// stage1 is the program of stage 1. It runs with all capabilities in new user,
// pid, mount and network namespaces, and uses them for little: it hands out
// sockets of its network namespace, to which the supervisor, who owns the user
// namespace, does the rest (user_namespaces(7): the owner has every capability
// in it). It gives its capabilities up and becomes bubblewrap. files are its
// descriptors, from 0 on, whose present numbers are not among these.
func stage1(files []int, sockets []socketSpec, bwrap string) *program {
	p := newProgram()
	p.control = plan.FDControl
	p.takeFiles(files)
	name := []byte(stage1Name + "\x00")
	p.add("name stage 1", unix.SYS_PRCTL, unix.PR_SET_NAME, name)
	p.add("start a session", unix.SYS_SETSID)
	p.add("set death signal", unix.SYS_PRCTL, unix.PR_SET_PDEATHSIG, int(unix.SIGKILL), 0, 0, 0)
	uid, gid := os.Getuid(), os.Getgid()
	p.writeFile("/proc/self/setgroups", "deny")
	p.writeFile("/proc/self/uid_map", fmt.Sprintf("%d %d 1", uid, uid))
	p.writeFile("/proc/self/gid_map", fmt.Sprintf("%d %d 1", gid, gid))
	// A /proc that has the pids of this namespace: bubblewrap looks for its child
	// there.
	p.add("mount proc", unix.SYS_MOUNT, "proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, 0)
	p.handOut(sockets, p.setKnobs(gid))
	p.add("close the sockets", unix.SYS_CLOSE_RANGE, len(files), maxFD, 0)
	p.become(bwrap)
	return p
}

// setKnobs lets the payload's group open ping sockets (icmp(7)), so that an echo
// request becomes a packet, and is refused and recorded by nftables. The result
// says why that is not possible. It also undoes the ipv6.disable_ipv6=1 of a
// kernel command line, which new namespaces start with.
func (p *program) setKnobs(gid int) result {
	ping, ignored := p.reserve(1), p.reserve(1)
	p.writeFile("/proc/sys/net/ipv4/ping_group_range", fmt.Sprintf("%d %d", gid, gid), ping)
	// Where this fails, adding the address says why.
	p.writeFile("/proc/sys/net/ipv6/conf/lo/disable_ipv6", "0", ignored)
	return ping
}

// takeFiles gives the process its descriptors, and no others.
func (p *program) takeFiles(files []int) {
	move := func(i int) {
		p.add("take a descriptor", unix.SYS_DUP3, files[i], i, 0)
	}
	move(plan.FDControl) // first: to say so when another fails
	for i := range files {
		if i != plan.FDControl {
			move(i)
		}
	}
	p.add("close the caller's descriptors", unix.SYS_CLOSE_RANGE, len(files), maxFD, 0)
	p.add("close at exec", unix.SYS_FCNTL, plan.FDControl, unix.F_SETFD, unix.FD_CLOEXEC)
}

// handOut sends sockets to the supervisor, with a report of two numbers: 0, and
// why ping sockets may not be opened.
func (p *program) handOut(sockets []socketSpec, ping result) {
	const header = unix.SizeofCmsghdr / 4
	cmsg := p.reserve(header + len(sockets))
	h := (*unix.Cmsghdr)(unsafe.Pointer(&p.results[cmsg]))
	h.Level, h.Type = unix.SOL_SOCKET, unix.SCM_RIGHTS
	h.SetLen(unix.CmsgLen(4 * len(sockets)))
	for i, s := range sockets {
		p.add("open socket "+s.name, unix.SYS_SOCKET, s.family, s.kind|unix.SOCK_CLOEXEC, s.proto)
		p.saveAs(cmsg + header + result(i))
	}
	iov := &[2]unix.Iovec{
		{Base: (*byte)(unsafe.Pointer(new(uint32))), Len: 4},
		{Base: (*byte)(unsafe.Pointer(&p.results[ping])), Len: 4},
	}
	msg := &unix.Msghdr{Iov: &iov[0], Iovlen: 2, Control: (*byte)(unsafe.Pointer(h))}
	msg.SetControllen(unix.CmsgSpace(4 * len(sockets)))
	p.keep = append(p.keep, iov, msg)
	p.add("hand out sockets", unix.SYS_SENDMSG, plan.FDControl, uintptr(unsafe.Pointer(msg)), unix.MSG_NOSIGNAL)
}

// become replaces the process with bubblewrap, which reads its arguments before
// anything else and so waits for the plan. It is loaded meanwhile.
func (p *program) become(bwrap string) {
	// A new, empty session keyring (keyctl(2)): the caller's is out of reach.
	p.add("join a new session keyring", unix.SYS_KEYCTL, unix.KEYCTL_JOIN_SESSION_KEYRING, 0).tolerated = unix.ENOSYS // a kernel without
	p.limits()
	p.dropCapabilities()
	p.resetSignals()
	argv := p.array([]string{"bwrap", "--args", fmt.Sprint(plan.FDArgs), plan.InitPath})
	p.add("execute bubblewrap", unix.SYS_EXECVE, bwrap, argv, p.array(stageEnv))
}

// limits restores the caller's limit of open files, which the runtime raises
// for itself, and keeps the payload's memory from a core_pattern that is a
// pipe: it ignores a limit of 0, but not of 1 (fs/coredump.c, since 2.6.32).
// Where the hard limit is 0 already it cannot be raised to 1, and stays.
func (p *program) limits() {
	set := func(name string, what int, l syscall.Rlimit) {
		limit := &l
		p.keep = append(p.keep, limit)
		p.add(name, unix.SYS_PRLIMIT64, 0, what, uintptr(unsafe.Pointer(limit)), 0)
	}
	set("restore the limit of open files", unix.RLIMIT_NOFILE, callersFiles())
	var core syscall.Rlimit
	if syscall.Getrlimit(unix.RLIMIT_CORE, &core) == nil && core.Max > 0 {
		core = syscall.Rlimit{Cur: 1, Max: 1}
	}
	set("limit core dumps", unix.RLIMIT_CORE, core)
}

// dropCapabilities gives up all power over the namespaces. bubblewrap refuses
// to run with ambient capabilities. User 0 would gain all capabilities again by
// executing: SECBIT_NOROOT (capabilities(7)) prevents that. One is left then for
// bubblewrap to drop: a user namespace into which user 0 is mapped is made only
// by who has CAP_SETFCAP (user_namespaces(7), Linux 5.12).
func (p *program) dropCapabilities() {
	p.add("clear ambient capabilities", unix.SYS_PRCTL, unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
	var keep uint32
	if os.Geteuid() == 0 {
		const bits = 1<<0 | 1<<1 // SECBIT_NOROOT and its lock (linux/securebits.h)
		p.add("set securebits", unix.SYS_PRCTL, unix.PR_SET_SECUREBITS, bits, 0, 0, 0)
		keep = 1 << unix.CAP_SETFCAP
	}
	hdr := &unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	data := &[2]unix.CapUserData{{Effective: keep, Permitted: keep, Inheritable: keep}}
	p.keep = append(p.keep, hdr, data)
	p.add("drop capabilities", unix.SYS_CAPSET, uintptr(unsafe.Pointer(hdr)), uintptr(unsafe.Pointer(data)))
	if keep != 0 {
		p.add("keep the capability to map user 0", unix.SYS_PRCTL, unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_RAISE, unix.CAP_SETFCAP, 0, 0)
	}
}
