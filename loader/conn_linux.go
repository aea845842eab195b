package loader

import (
	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/bpf"
	"github.com/sallyport/sallyport/internal/event"
)

// ProcessOf finds the process behind a connection that was accepted from a
// sandbox, with its ancestors, nearest first; nil where it is not known.
func (l *Loader) ProcessOf(sandbox uint64, c Connection) (*event.Process, []event.Process) {
	if !c.From.IsValid() || !c.UDP && !c.To.IsValid() {
		return nil, nil
	}
	k := bpf.KernelConnKey{Sandbox: sandbox, Sport: c.From.Port(), Saddr: c.From.Addr().As16()}
	if c.UDP {
		k.Protocol = unix.IPPROTO_UDP // a resolver's address tells nothing apart
	} else {
		k.Protocol, k.Dport, k.Daddr = unix.IPPROTO_TCP, c.To.Port(), c.To.Addr().As16()
	}
	var v bpf.KernelConn
	if err := l.maps["conns"].Lookup(k, &v); err != nil {
		return nil, nil
	}
	return l.processOf(&v)
}

func (l *Loader) processOf(v *bpf.KernelConn) (*event.Process, []event.Process) {
	k := l.procs.get(v.Proc)
	if k == nil {
		return &event.Process{PID: int(v.Tgid), ExecID: execID(v.Tgid, v.Start), UID: v.Uid}, nil
	}
	p := k.Process
	p.UID = v.Uid
	return &p, l.procs.ancestors(k)
}
