package bypass

import (
	"fmt"

	"github.com/sallyport/sallyport/internal/event"
)

// always is a record that every tier has.
func always(r Record) []Record {
	r.From = event.TierRootless
	return []Record{r}
}

// call is the record of a system call that the filter refuses.
func call(name, rule string) []Record {
	return always(Record{Op: event.SysRefused, Reason: event.SyscallRefused, Rule: "seccomp-" + rule, Socket: name})
}

func namespace(name string) []Record {
	return always(Record{Op: event.NSCreate, Reason: event.SyscallRefused, Rule: "seccomp-namespaces", Socket: name})
}

func rings() []Vector {
	var list []Vector
	for _, r := range []struct{ id, text, op, how, target string }{
		{"io_uring-connect", "connect, inline", "connect", "inline", "$there:2525"},
		{"io_uring-connect-worker", "connect, by a worker thread", "connect", "worker", "$there:2525"},
		{"io_uring-connect-sqpoll", "connect, by a polling thread of the kernel's", "connect", "sqpoll", "$there:2525"},
		{"io_uring-send", "sendmsg of a datagram, inline", "sendmsg", "inline", "$there:5000"},
		{"io_uring-send-worker", "sendmsg of a datagram, by a worker thread", "sendmsg", "worker", "$there:5000"},
		{"io_uring-send-sqpoll", "sendmsg of a datagram, by a polling thread of the kernel's", "sendmsg", "sqpoll", "$there:5000"},
		{"io_uring-socket", "socket (IORING_OP_SOCKET)", "socket", "inline", "40"},
		{"io_uring-openat", "openat of a hidden file (IORING_OP_OPENAT)", "openat", "inline", "$home/.ssh/id"},
	} {
		list = append(list, Vector{ID: r.id, Text: "io_uring: " + r.text, Area: Rings, Try: []string{"uring", r.op, r.how, r.target},
			Want: "EPERM", Outside: "ok", Records: call("io_uring_setup", "io_uring")})
	}
	return list
}

func spaces() []Vector {
	return []Vector{
		{ID: "user-namespace", Text: "a user namespace of one's own", Area: Spaces, Try: []string{"clone", "0x10000000"}, Want: "EPERM", Outside: "ok", Records: namespace("clone")},
		{ID: "network-namespace", Text: "a network namespace of one's own, by clone", Area: Spaces, Try: []string{"clone", "0x50000000"}, Want: "EPERM", Outside: "ok", Records: namespace("clone")},
		{ID: "clone3", Text: "the same by clone3, whose flags no filter sees", Area: Spaces, Try: []string{"clone3", "0x10000000"}, Want: "ENOSYS",
			Nothing: "the filter says that there is no such call, and programs take clone instead"},
		{ID: "cgroup-namespace", Text: "unshare -UrCm, to mount cgroups and move out", Area: Spaces, Try: []string{"unshare", "0x12020000"}, Want: "EPERM", Records: namespace("unshare")},
		{ID: "setns", Text: "into another namespace", Area: Spaces, Try: []string{"setns", "/proc/self/ns/net"}, Want: "EPERM", Outside: "ok", Records: namespace("setns")},
		{ID: "cgroup-procs", Text: "into another cgroup, by its cgroup.procs", Area: Spaces, Try: []string{"write", "$cgroup/cgroup.procs"}, Want: "EROFS|EACCES",
			Records: []Record{{From: event.TierTrace, Op: event.FileWrite, Path: "$cgroup/cgroup.procs", Reason: event.PathReadOnly, Rule: "read-only"}}, Missing: "files:"},
		{ID: "cgroup-made", Text: "a cgroup of one's own", Area: Spaces, Try: []string{"mkdir", "$cgroup/own"}, Want: "EROFS|EACCES|EPERM",
			Records: []Record{{From: event.TierTrace, Op: event.FileCreate, Path: "$cgroup/own", Reason: event.PathReadOnly, Rule: "read-only"}}, Missing: "files:"},
		{ID: "cgroup-mount", Text: "mount cgroups, to move out", Area: Spaces, Try: []string{"mount", "/tmp"}, Want: "EPERM", Records: call("mount", "mount")},
		{ID: "x32", Text: "calls of the x32 table", Area: Spaces, Try: []string{"x32"}, Want: "ENOSYS", Records: call("x32:39", "x32")},
		{ID: "i386", Text: "calls of the i386 table", Area: Spaces, Try: []string{"i386"}, Want: "ENOSYS", Outside: "ok", Records: call("i386:20", "foreign-arch")},
		{ID: "bpf", Text: "programs of one's own for the kernel", Area: Spaces, Try: []string{"bpf"}, Want: "EPERM", Records: call("bpf", "bpf")},
		{ID: "file-handle", Text: "a file by its handle, past every mount", Area: Spaces, Try: []string{"handle", "/"}, Want: "EPERM|EOPNOTSUPP", Records: call("open_by_handle_at", "file-handle")},
	}
}

func processes() []Vector {
	const outside = "the pid namespace has no such process"
	return []Vector{
		{ID: "ptrace", Text: "ptrace", Area: Processes, Try: []string{"ptrace", "1"}, Want: "EPERM", Records: call("ptrace", "ptrace")},
		{ID: "process_vm_readv", Text: "process_vm_readv", Area: Processes, Try: []string{"vmread", "$self"}, Want: "EPERM", Outside: "ok", Records: call("process_vm_readv", "ptrace")},
		{ID: "process_vm_writev", Text: "process_vm_writev", Area: Processes, Try: []string{"vmwrite", "$self"}, Want: "EPERM", Outside: "ok", Records: call("process_vm_writev", "ptrace")},
		{ID: "proc-mem", Text: "/proc/1/mem, the process that holds the sandbox", Area: Processes, Try: []string{"peek", "1"}, Want: "EACCES",
			Records: []Record{{From: event.TierTrace, Op: event.FileRead, Path: "/proc/1/mem", Reason: event.System, Rule: "system"}}, Missing: "files:"},
		{ID: "proc-root", Text: "/proc/1/root", Area: Processes, Try: []string{"open", "/proc/1/root"}, Want: "EACCES",
			Records: []Record{{From: event.TierTrace, Op: event.FileRead, Path: "/proc/1/root", Reason: event.System, Rule: "system"}}, Missing: "files:"},
		{ID: "proc-mem-outside", Text: "/proc/PID/mem of a process outside", Area: Processes, Try: []string{"peek", "$pid"}, Want: "ENOENT", Nothing: outside},
		{ID: "signal-outside", Text: "a signal to a process outside", Area: Processes, Try: []string{"signal0", "$pid"}, Want: "ESRCH", Nothing: outside},
		{ID: "pidfd_getfd", Text: "pidfd_getfd: a descriptor out of another process", Area: Processes, Try: []string{"getfd", "$self"}, Want: "EPERM", Outside: "ok", Records: call("pidfd_getfd", "ptrace")},
	}
}

// family is the record of a socket that the filter refuses.
func family(op event.Operation, socket string) []Record {
	return always(Record{Op: op, Reason: event.SocketRefused, Rule: "seccomp-socket-family", Socket: socket})
}

func families() []Vector {
	var list []Vector
	for _, s := range []struct {
		id, text, try, socket, module string
		op                            event.Operation
	}{
		{"udp-lite", "UDP-Lite", "2 2 136", "AF_INET/SOCK_DGRAM/136", "", event.NetSocket},
		{"udp-lite6", "UDP-Lite over IPv6", "10 2 136", "AF_INET6/SOCK_DGRAM/136", "", event.NetSocket},
		{"sctp", "SCTP", "2 1 132", "AF_INET/SOCK_STREAM/132", "SCTP", event.NetSocket},
		{"sctp-packets", "SCTP, one to many", "2 5 132", "AF_INET/SOCK_SEQPACKET/132", "SCTP", event.NetSocket},
		{"l2tp", "L2TP over IP", "2 2 115", "AF_INET/SOCK_DGRAM/115", "L2TP/IP", event.NetSocket},
		{"dccp", "DCCP", "2 6 33", "AF_INET/SOCK_DCCP/33", "DCCP", event.NetSocket},
		{"raw", "a raw socket", "2 3 255", "AF_INET/SOCK_RAW/255", "", event.NetRaw},
		{"raw-icmp", "a raw ICMP socket", "2 3 1", "AF_INET/SOCK_RAW/1", "", event.NetRaw},
		{"raw6", "a raw socket over IPv6", "10 3 58", "AF_INET6/SOCK_RAW/58", "", event.NetRaw},
		{"packet", "AF_PACKET, whole frames", "17 3 0x300", "AF_PACKET/SOCK_RAW/768", "", event.NetRaw},
		{"packet-cooked", "AF_PACKET, without their heads", "17 2 0x300", "AF_PACKET/SOCK_DGRAM/768", "", event.NetRaw},
		{"xdp", "AF_XDP", "44 3 0", "AF_XDP/SOCK_RAW/0", "XDP", event.NetRaw},
		{"vsock", "AF_VSOCK: to the hypervisor", "40 1 0", "AF_VSOCK/SOCK_STREAM/0", "AF_VSOCK", event.NetSocket},
		{"alg", "AF_ALG", "38 5 0", "AF_ALG/SOCK_SEQPACKET/0", "ALG", event.NetSocket},
		{"rds", "RDS", "21 5 0", "AF_RDS/SOCK_SEQPACKET/0", "RDS", event.NetSocket},
		{"smc", "SMC", "43 1 0", "AF_SMC/SOCK_STREAM/0", "SMC", event.NetSocket},
		{"tipc", "TIPC", "30 5 0", "AF_TIPC/SOCK_SEQPACKET/0", "TIPC", event.NetSocket},
		{"rxrpc", "RXRPC", "33 2 2", "AF_RXRPC/SOCK_DGRAM/2", "RXRPC", event.NetSocket},
		{"bluetooth", "Bluetooth", "31 3 1", "AF_BLUETOOTH/SOCK_RAW/1", "HCI", event.NetRaw},
		{"qrtr", "QRTR", "42 2 0", "AF_QIPCRTR/SOCK_DGRAM/0", "QIPCRTR", event.NetSocket},
		{"kcm", "KCM", "41 2 0", "AF_KCM/SOCK_DGRAM/0", "KCM", event.NetSocket},
		{"can", "CAN", "29 3 1", "AF_CAN/SOCK_RAW/1", "CAN", event.NetRaw},
		{"key", "AF_KEY", "15 3 2", "AF_KEY/SOCK_RAW/2", "KEY", event.NetRaw},
		{"netlink-generic", "generic netlink", "16 3 16", "AF_NETLINK/SOCK_RAW/16", "", event.NetSocket},
		{"netlink-netfilter", "netfilter's netlink, to change the rules", "16 3 12", "AF_NETLINK/SOCK_RAW/12", "", event.NetSocket},
		{"netlink-diag", "netlink's list of sockets", "16 3 4", "AF_NETLINK/SOCK_RAW/4", "", event.NetSocket},
		{"netlink-audit", "audit's netlink", "16 3 9", "AF_NETLINK/SOCK_RAW/9", "", event.NetSocket},
		{"netlink-xfrm", "IPsec's netlink", "16 3 6", "AF_NETLINK/SOCK_RAW/6", "", event.NetSocket},
		{"netlink-uevent", "the kernel's own messages", "16 3 15", "AF_NETLINK/SOCK_RAW/15", "", event.NetSocket},
	} {
		list = append(list, Vector{ID: s.id, Text: s.text, Area: Families, Try: words("socket " + s.try), Want: "EACCES",
			Outside: "ok", Module: s.module, Records: family(s.op, s.socket)})
	}
	for _, n := range []struct{ id, text, addr string }{{"ping", "a ping socket", "$there"}, {"ping6", "a ping socket, IPv6", "$there6"}} {
		want := packet(event.NetICMP, n.addr, 0)
		want.Barred = "open ping socket"
		want.Late = n.id == "ping6" // whose call is told of the refusal later (IPV6_RECVERR in ipv6(7))
		list = append(list, Vector{ID: n.id, Text: n.text, Area: Families, Try: []string{"ping", n.addr}, Records: always(want)})
	}
	return append(list, Vector{ID: "header-included", Text: "IP_HDRINCL: packets with heads of one's own", Area: Families,
		Try: []string{"hdrincl", "$there"}, Want: "EACCES", Outside: "ok", Records: family(event.NetRaw, "AF_INET/SOCK_RAW/255")})
}

// packet is the record of what is neither TCP nor DNS.
func packet(op event.Operation, addr string, port uint16) Record {
	return Record{Op: op, Addr: addr, Port: port, Reason: event.ProtocolDenied, Rule: "tcp-and-dns-only"}
}

// options are the records of what sets IP options: the packet is refused, or
// setting them is.
func options(set string, record Record) []Record {
	record.From, record.Barred = event.TierRootless, set
	return []Record{record, {From: event.TierTrace, Op: event.NetSocket, Reason: event.ProtocolDenied}}
}

func connects() []Vector {
	tcp := func(id, text string, port uint16, try ...string) Vector {
		addr := "$there"
		return Vector{ID: id, Text: text, Area: Connects, Try: try, Outside: "ok", Records: always(literal(addr, port))}
	}
	udp := func(id, text, addr string, port uint16, try string) Vector {
		return Vector{ID: id, Text: text, Area: Connects, Try: words(fmt.Sprintf(try, port)), Outside: "ok", Records: always(packet(event.NetUDP, addr, port))}
	}
	v6 := tcp("fastopen6", "MSG_FASTOPEN over IPv6", 2525, "fastopen", "[$there6]:2525")
	v6.Records = always(literal("$there6", 2525))
	mptcp6 := tcp("mptcp6", "multipath TCP over IPv6", 2525, "mptcp", "[$there6]:2525")
	mptcp6.Records = v6.Records
	return []Vector{
		tcp("fastopen", "MSG_FASTOPEN: first bytes without connect", 2525, "fastopen", "$there:2525"), v6,
		tcp("fastopen-connect", "TCP_FASTOPEN_CONNECT", 2525, "fastopenconnect", "$there:2525"),
		tcp("mapped", "an IPv4 address as IPv6", 2525, "mapped", "$there:2525"),
		tcp("mptcp", "multipath TCP", 2525, "mptcp", "$there:2525"), mptcp6,
		tcp("late-connect", "connect of a socket that was bound before", 2525, "boundconnect", "$there:2525"),
		udp("udp-mapped", "a datagram to an IPv4 address as IPv6", "$there", 5001, "sendto 10 mapped $there:%d"),
		udp("udp-inet-on-inet6", "a datagram to an AF_INET address on an IPv6 socket", "$there", 5002, "sendto 10 inet $there:%d"),
		udp("udp-unspec", "a datagram to an address of family AF_UNSPEC", "$there", 5003, "sendto 2 unspec $there:%d"),
		udp("udp-connected", "write on a connected datagram socket", "$there", 5004, "sendto 2 connected $there:%d"),
		{ID: "ip-options", Text: "IP_OPTIONS: any", Area: Connects, Try: []string{"ipoptions", "$there:2525", "1", "1", "1", "1"}, Outside: "ok",
			Records: options("", Record{Op: event.NetConnect, Addr: "$there", Port: 2525, Reason: event.UnknownDest, Rule: "no-ip-options"})},
		{ID: "source-route", Text: "IP_OPTIONS: a source route, whose first hop is the address of the packet", Area: Connects, Try: words("ipoptions $there:2525 131 7 4 93 184 215 15 1"),
			Records: options("set IP options", Record{Op: event.NetConnect, Addr: "$other", Port: 2525, Reason: event.UnknownDest, Rule: "no-ip-options", Resent: true})},
		{ID: "listen-without-bind", Text: "listen without bind, for somebody outside to come", Area: Connects, Try: []string{"listen"}, Want: "alone", Nothing: "nothing outside leads to the sandbox's own network"},
		{ID: "relay", Text: "a relay on the sandbox's loopback", Area: Connects, Try: []string{"relay", "$there:2525"}, Records: always(literal("$there", 2525))},
	}
}
