package sandbox

import (
	"fmt"
	"strings"
	"time"

	"github.com/sallyport/sallyport/internal/event"
	"github.com/sallyport/sallyport/internal/plan"
)

// refusalEvent says in the record what a refused system call was about. How
// many different events there can be is bounded: whatever a payload passes,
// the object is one of few.
func refusalEvent(n notification, r plan.Refusal, now time.Time) event.Event {
	e := event.Event{
		Verdict: event.Deny, Layer: event.LayerSeccomp, Operation: event.SysRefused,
		Object: event.Object{Syscall: r.Call}, Reason: event.SyscallRefused,
		Rule: "builtin:seccomp-" + r.Rule, Errno: r.Errno.String(), Detail: event.Text(callText(n, r)),
		Count: 1, First: now, Last: now, Time: now,
	}
	switch r.Call {
	case "":
		e.Object.Syscall = foreignCall(n)
	case "socket", "socketpair":
		describeSocket(&e, n)
	case "clone", "unshare", "setns":
		e.Operation = event.NSCreate
	}
	return e
}

// foreignCall names a call of another table by its number.
func foreignCall(n notification) string {
	nr, table := n.nr, ""
	switch {
	case n.arch == 0x40000003:
		table = "i386"
	case n.arch == 0x40000028:
		table = "arm"
	case n.arch == plan.ArchAMD64.Audit() && nr&plan.X32Bit != 0:
		table, nr = "x32", nr&^plan.X32Bit
	default:
		table = fmt.Sprintf("arch-%#x", n.arch)
	}
	if nr > 1023 {
		return table + ":other"
	}
	return fmt.Sprintf("%s:%d", table, nr)
}

// Names of linux/socket.h and bits/socket_type.h, by number.
var (
	familyNames = strings.Fields(`UNSPEC UNIX INET AX25 IPX APPLETALK NETROM BRIDGE ATMPVC X25 INET6 ROSE DECnet
		NETBEUI SECURITY KEY NETLINK PACKET ASH ECONET ATMSVC RDS SNA IRDA PPPOX WANPIPE LLC IB MPLS CAN TIPC
		BLUETOOTH IUCV RXRPC ISDN PHONET IEEE802154 CAIF ALG NFC VSOCK KCM QIPCRTR SMC XDP MCTP`)
	typeNames = map[uint32]string{1: "STREAM", 2: "DGRAM", 3: "RAW", 4: "RDM", 5: "SEQPACKET", 6: "DCCP", 10: "PACKET"}
)

func describeSocket(e *event.Event, n notification) {
	family, typ, proto := uint32(n.args[0]), uint32(n.args[1])&0xf, uint32(n.args[2])
	e.Operation, e.Reason = event.NetSocket, event.SocketRefused
	const raw, packet, afNetlink, afPacket = 3, 10, 16, 17
	if typ == raw && family != afNetlink || typ == packet || family == afPacket {
		e.Operation = event.NetRaw
	}
	e.Object.Socket = socketText(family, typ, proto)
}

func socketText(family, typ, proto uint32) string {
	text := "AF_OTHER"
	if int(family) < len(familyNames) {
		text = "AF_" + familyNames[family]
	}
	if name, ok := typeNames[typ]; ok {
		text += "/SOCK_" + name
	} else {
		text += fmt.Sprintf("/%d", typ)
	}
	// An Ethernet protocol is in network byte order, up to 65535 (packet(7)).
	if proto > 0xffff || family != 17 && proto > 512 {
		return text + "/other"
	}
	return fmt.Sprintf("%s/%d", text, proto)
}

// argCounts has the calls that take other than four arguments.
var argCounts = map[string]int{
	"acct": 1, "add_key": 5, "bpf": 3, "chroot": 1, "clone": 5, "connect": 3, "delete_module": 2, "fcntl": 3,
	"finit_module": 3, "fsconfig": 5, "fsmount": 3, "fsopen": 2, "fspick": 3, "init_module": 3, "io_uring_enter": 6,
	"io_uring_setup": 2, "ioctl": 3, "ioperm": 3, "iopl": 1, "kcmp": 5, "kexec_file_load": 5, "keyctl": 5, "mount": 5,
	"mount_setattr": 5, "move_mount": 5, "open_by_handle_at": 3, "open_tree": 3, "open_tree_attr": 5,
	"perf_event_open": 5, "pidfd_getfd": 3, "pivot_root": 2, "process_madvise": 5, "process_vm_readv": 6,
	"process_vm_writev": 6, "setns": 2, "socket": 3, "swapoff": 1, "swapon": 2, "syslog": 3, "umount2": 2,
	"unshare": 1, "userfaultfd": 1, "vhangup": 0,
}

// callText prints a call as strace(1) would, as far as its arguments are known
// without looking into the caller's memory.
func callText(n notification, r plan.Refusal) string {
	name, count := r.Call, 4
	if name == "" {
		name, count = foreignCall(n), 0
	}
	if c, ok := argCounts[name]; ok {
		count = c
	}
	args := make([]string, count)
	for i := range args {
		args[i] = argText(name, i, n.args[i])
	}
	return name + "(" + strings.Join(args, ", ") + ")"
}

func argText(call string, i int, v uint64) string {
	low := uint32(v)
	switch {
	case call == "socket" || call == "socketpair":
		if parts := strings.Split(socketText(uint32(v), low&0xf, 0), "/"); i < 2 {
			return parts[i]
		}
	case i == 0 && (call == "clone" || call == "unshare"), i == 1 && call == "setns":
		return namespaceText(low)
	case i == 1 && call == "ioctl":
		if name, ok := ioctlNames[low]; ok {
			return name
		}
	case i == 1 && call == "fcntl":
		if name, ok := fcntlNames[low]; ok {
			return name
		}
	}
	if v < 4096 {
		return fmt.Sprint(v)
	}
	return fmt.Sprintf("%#x", v)
}

var (
	ioctlNames = map[uint32]string{0x5412: "TIOCSTI", 0x541c: "TIOCLINUX", 0x541d: "TIOCCONS", 0x5423: "TIOCSETD"}
	fcntlNames = map[uint32]string{1024: "F_SETLEASE", 1040: "F_SETDELEG"}
	// linux/sched.h
	namespaceNames = []struct {
		bit  uint32
		name string
	}{{0x20000, "NEWNS"}, {0x2000000, "NEWCGROUP"}, {0x4000000, "NEWUTS"}, {0x8000000, "NEWIPC"},
		{0x10000000, "NEWUSER"}, {0x20000000, "NEWPID"}, {0x40000000, "NEWNET"}}
)

func namespaceText(flags uint32) string {
	var parts []string
	for _, n := range namespaceNames {
		if flags&n.bit != 0 {
			parts = append(parts, "CLONE_"+n.name)
			flags &^= n.bit
		}
	}
	if flags != 0 || len(parts) == 0 {
		parts = append(parts, fmt.Sprintf("%#x", flags))
	}
	return strings.Join(parts, "|")
}
