package loader

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/bpf"
	"github.com/sallyport/sallyport/internal/event"
)

// clock turns the time since boot into the time of day.
type clock struct{ boot time.Time }

func readClock() clock {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &t); err != nil {
		return clock{} // since Linux 2.6.39 it cannot fail
	}
	return clock{time.Now().Add(-time.Duration(t.Nano()))}
}

func (c clock) at(ns uint64) time.Time { return c.boot.Add(time.Duration(ns)) }

// record makes an event of a denial.
func (l *Loader) record(d *denial, c clock) Record {
	r := Record{Cgroup: d.Key.Sandbox, Args: d.Args, Call: l.names.of(d.Key.Call), TID: int(d.Who.Tid),
		seen: recorders[bpf.KernelHook(d.Key.Hook)]}
	r.Event = event.Event{
		Schema: event.SchemaVersion, Time: c.at(d.Time), First: c.at(d.First), Last: c.at(d.Time),
		Mono: int64(d.Time), Verdict: event.Deny, Layer: event.LayerTrace, Operation: operation(d.Key.Op),
		Errno: errnoName(d.Key.Err), Reason: reasonOf(d), Count: d.Count,
	}
	base := joinNames(d.parts[bpf.KernelPartPART_CWD], d.state(bpf.KernelPartPART_CWD))
	r.Event.Process, r.Event.Ancestors = l.who(d, base)
	if !r.byHook(bpf.KernelHook(d.Key.Hook)) {
		r.Event.Object.Syscall = r.syscall()
	}
	if d.Compat != 0 {
		r.Event.Object.Syscall = fmt.Sprintf("%s(%d)", r.Call, d.Nr)
	}
	if slices.Contains([]string{"access", "faccessat", "faccessat2"}, r.Call) {
		r.Event.Verdict = event.Audit // a question, not an attempt
	}
	address(&r.Event, d)
	l.paths(&r, d, base)
	return r
}

// unknownRecord is about a tally whose own record found no room, or is no longer
// there.
func (l *Loader) unknownRecord(k bpf.KernelTallyKey, t bpf.KernelTally) Record {
	r := Record{Cgroup: k.Sandbox, Call: l.names.of(k.Call), seen: recorders[bpf.KernelHook(k.Hook)]}
	d := &denial{}
	d.Key = k
	r.canary = r.Call == canaryCall // if one is waited for at all
	r.Event = event.Event{
		Schema: event.SchemaVersion, Verdict: event.Deny, Layer: event.LayerTrace, Operation: operation(k.Op),
		Errno: errnoName(k.Err), Reason: reasonOf(d), Mono: int64(t.Last), Object: event.Object{Syscall: r.syscall()},
		Detail: "what it aimed at could not be recorded",
	}
	if r.byHook(bpf.KernelHook(k.Hook)) {
		r.Event.Object.Syscall = ""
	}
	if p := l.procs.get(k.Proc); p != nil {
		process := p.Process
		r.Event.Process, r.Event.Ancestors = &process, l.procs.ancestors(p)
	}
	return r
}

// byHook fills in what is known of a program that refuses by itself, if one did.
func (r *Record) byHook(hook bpf.KernelHook) bool {
	switch lsm, ok := lsmHooks[hook]; {
	case ok:
		r.Call, r.Event.Layer, r.Event.Rule = lsm.call, event.LayerLSM, lsm.rule
	case recorders[hook] != "":
		return false
	default:
		r.Call, r.Event.Layer, r.Event.Rule = hooks[hook], event.LayerCgroup, hookRules[hook]
	}
	return true
}

// syscall is how the attempt was made: by a call, or by io_uring, as that call does it.
func (r *Record) syscall() string {
	if r.seen == recorders[bpf.KernelHookHOOK_RING] {
		return "io_uring " + r.Call
	}
	return r.Call
}

// hookRules name what the cgroup programs enforce; the packet rules and the
// system call filter have the same names for the same refusals.
var hookRules = map[bpf.KernelHook]string{
	bpf.KernelHookHOOK_SOCKET:     "builtin:socket-family",
	bpf.KernelHookHOOK_CONNECT:    "builtin:tcp-and-dns-only",
	bpf.KernelHookHOOK_SENDMSG:    "builtin:tcp-and-dns-only",
	bpf.KernelHookHOOK_SETSOCKOPT: "builtin:no-ip-options",
	bpf.KernelHookHOOK_UNIX:       "builtin:unix-socket",
}

// reasonOf is what the kernel's answer alone says. Whether the policy would
// refuse, too, is for others to find out.
func reasonOf(d *denial) event.Reason {
	if lsm, ok := lsmHooks[bpf.KernelHook(d.Key.Hook)]; ok {
		return lsm.reason
	}
	switch bpf.KernelHook(d.Key.Hook) {
	case bpf.KernelHookHOOK_SOCKET:
		return event.SocketRefused
	case bpf.KernelHookHOOK_CONNECT, bpf.KernelHookHOOK_SENDMSG, bpf.KernelHookHOOK_SETSOCKOPT:
		return event.ProtocolDenied
	case bpf.KernelHookHOOK_UNIX:
		return event.NotAllowed
	}
	switch operation(d.Key.Op) {
	case event.SysRefused, event.NSCreate:
		return event.SyscallRefused
	case event.NetSocket, event.NetRaw:
		return event.SocketRefused
	case event.NetUDP, event.NetICMP:
		return event.ProtocolDenied
	}
	if d.Key.Err == -int16(unix.EROFS) {
		return event.PathReadOnly
	}
	return event.System
}

func errnoName(err int16) string {
	if name := unix.ErrnoName(unix.Errno(-err)); name != "" {
		return name
	}
	return strconv.Itoa(int(-err))
}

// who joins what is known since exec with what the kernel saw at the attempt.
func (l *Loader) who(d *denial, cwd string) (*event.Process, []event.Process) {
	p := &event.Process{
		PID: int(d.Who.Tgid), ExecID: execID(d.Who.Tgid, d.Who.Start), UID: d.Who.Uid,
		Comm: event.Text(cString(d.Who.Comm[:])), ExeDevIno: devIno(d.Who.ExeDev, d.Who.ExeIno),
		Cwd: event.Text(cwd), LoginUID: loginUID(d.Who.Loginuid),
	}
	k := l.procs.get(d.Who.Proc)
	if k == nil {
		return p, nil
	}
	p.Exe, p.Argv, p.ArgvTruncated = k.Exe, k.Argv, k.ArgvTruncated
	if cwd == "" {
		p.Cwd = k.Cwd
	}
	return p, l.procs.ancestors(k)
}

// The names of socket families and types that Object.Socket uses.
var (
	families = map[uint16]string{unix.AF_UNIX: "unix", unix.AF_INET: "inet", unix.AF_INET6: "inet6",
		unix.AF_NETLINK: "netlink", unix.AF_PACKET: "packet", unix.AF_VSOCK: "vsock", unix.AF_ALG: "alg", unix.AF_XDP: "xdp"}
	socketTypes = map[uint16]string{unix.SOCK_STREAM: "stream", unix.SOCK_DGRAM: "dgram", unix.SOCK_RAW: "raw",
		unix.SOCK_SEQPACKET: "seqpacket"}
)

func nameOr(names map[uint16]string, v uint16) string {
	if n, ok := names[v]; ok {
		return n
	}
	return strconv.Itoa(int(v))
}

// address fills in the socket's side of the object.
func address(e *event.Event, d *denial) {
	to := d.To
	if to.Family == 0 && to.Type == 0 {
		return
	}
	o := &e.Object
	if bpf.KernelHook(d.Key.Hook) == bpf.KernelHookHOOK_SETSOCKOPT {
		o.Socket = fmt.Sprintf("%s option %d", nameOr(families, to.Family), to.Port)
		return
	}
	o.Socket = nameOr(families, to.Family) + "/" + nameOr(socketTypes, to.Type)
	if to.Protocol != 0 {
		o.Socket += "/" + strconv.Itoa(int(to.Protocol))
	}
	if to.Family != unix.AF_INET && to.Family != unix.AF_INET6 || e.Operation == event.NetSocket || to.Ip == [16]byte{} && to.Port == 0 {
		return
	}
	o.Addr, o.Port = netip.AddrFrom16(to.Ip).Unmap().String(), to.Port
	switch to.Protocol {
	case unix.IPPROTO_TCP, 262:
		o.Proto = "tcp"
	case unix.IPPROTO_UDP:
		o.Proto = "udp"
	case unix.IPPROTO_ICMP:
		o.Proto, o.Port = "icmp", 0
	case unix.IPPROTO_ICMPV6:
		o.Proto, o.Port = "icmpv6", 0
	default:
		o.Proto = "ip:" + strconv.Itoa(int(to.Protocol))
	}
}
