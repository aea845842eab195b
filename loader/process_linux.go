package loader

import (
	"errors"
	"fmt"
	"sync"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/bpf"
	"github.com/sallyport/sallyport/internal/event"
)

const (
	goneMax      = 4096 // processes that have ended and may be others' ancestors
	ancestorsMax = 16
	tick         = 1e9 / 100 // USER_HZ, in which exec_id counts (proc(5), stat)
)

// known is a process, or what it was between two execs.
type known struct {
	event.Process
	parent, before uint64
	sandbox        uint64
}

// processes finds processes by their key in the kernel's map, and remembers
// those that have left it.
type processes struct {
	mu   sync.Mutex
	m    *ebpf.Map
	gone map[uint64]*known
	fifo []uint64
	live map[uint64]*known // read before, still in the map
}

func newProcesses(m *ebpf.Map) *processes {
	return &processes{m: m, gone: map[uint64]*known{}, live: map[uint64]*known{}}
}

// get finds a process, nil if it is not known.
func (p *processes) get(key uint64) *known {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.find(key)
}

func (p *processes) find(key uint64) *known {
	if key == 0 {
		return nil
	}
	if k := p.gone[key]; k != nil {
		return k
	}
	if k := p.live[key]; k != nil {
		return k
	}
	k := p.read(key)
	if k != nil {
		p.live[key] = k
	}
	return k
}

func (p *processes) read(key uint64) *known {
	var v bpf.KernelProc
	if err := p.m.Lookup(key, &v); err != nil {
		return nil
	}
	return knownOf(&v)
}

// knownOf makes what is recorded of a process.
func knownOf(v *bpf.KernelProc) *known {
	argv, truncated := arguments(v.Argv[:], int(v.ArgvLen))
	k := &known{parent: v.Parent, before: v.Before, sandbox: v.Sandbox, Process: event.Process{
		PID: int(v.Tgid), ExecID: execID(v.Tgid, v.Start),
		Exe:       event.Text(joinNames(clip(v.Exe[:], v.ExeLen), exeState(v.ExeState, v.ExeLen, len(v.Exe)))),
		ExeDevIno: devIno(v.ExeDev, v.ExeIno),
		Comm:      event.Text(cString(v.Comm[:])),
		Cwd:       event.Text(joinNames(clip(v.Cwd[:], v.CwdLen), exeState(v.CwdState, v.CwdLen, len(v.Cwd)))),
		UID:       v.Uid, ArgvTruncated: truncated, LoginUID: loginUID(v.Loginuid),
	}}
	for _, a := range argv {
		k.Argv = append(k.Argv, event.Text(a))
	}
	return k
}

// exeState: a path that filled its room has lost its beginning.
func exeState(state uint8, n uint16, room int) pathState {
	if int(n) >= room {
		return pathCut
	}
	return pathState(state)
}

// loginUID: all ones is "not set" (loginuid in proc(5)).
func loginUID(v uint32) *uint32 {
	if v == ^uint32(0) {
		return nil
	}
	return &v
}

func execID(pid uint32, start uint64) string { return fmt.Sprintf("%d:%d", pid, start/tick) }

// devIno takes a device number in the kernel's form, 12 bits and 20.
func devIno(dev uint32, ino uint64) string {
	if ino == 0 {
		return ""
	}
	return fmt.Sprintf("%d:%d", unix.Mkdev(dev>>20, dev&0xfffff), ino)
}

func clip(in []byte, n uint16) []byte { return in[:min(int(n), len(in))] }

// left takes a process out of the map: all that it did has been read.
func (p *processes) left(key uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	k := p.live[key]
	delete(p.live, key)
	if k == nil {
		k = p.read(key)
	}
	p.m.Delete(key) // already gone: the same
	if k == nil || p.gone[key] != nil {
		return
	}
	p.gone[key] = k
	p.fifo = append(p.fifo, key)
	for len(p.fifo) > goneMax {
		delete(p.gone, p.fifo[0])
		p.fifo = p.fifo[1:]
	}
}

// forget drops the processes for which drop says so, from the map too.
func (p *processes) forget(drop func(*bpf.KernelProc) bool) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	var key uint64
	var v bpf.KernelProc
	var keys []uint64
	it := p.m.Iterate()
	for it.Next(&key, &v) {
		if drop(&v) {
			keys = append(keys, key)
		}
	}
	for _, k := range keys {
		delete(p.live, k)
		if err := p.m.Delete(k); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return fmt.Errorf("forget process: %w", err)
		}
	}
	if err := it.Err(); err != nil && !errors.Is(err, ebpf.ErrIterationAborted) {
		return fmt.Errorf("list processes: %w", err)
	}
	return nil
}

// forgetGone drops what ended in a sandbox that is no more.
func (p *processes) forgetGone(sandbox uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	kept := p.fifo[:0]
	for _, key := range p.fifo {
		if p.gone[key].sandbox == sandbox {
			delete(p.gone, key)
			continue
		}
		kept = append(kept, key)
	}
	p.fifo = kept
}

// ancestors lists who forked a process, the nearest first. One that executed
// something else since is listed as what it was.
func (p *processes) ancestors(k *known) []event.Process {
	p.mu.Lock()
	defer p.mu.Unlock()
	var list []event.Process
	for k != nil && len(list) < ancestorsMax {
		if k = p.find(k.parent); k != nil {
			list = append(list, k.Process)
		}
	}
	return list
}
