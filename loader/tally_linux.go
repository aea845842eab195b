package loader

import (
	"encoding/binary"
	"fmt"
	"strings"
	"sync"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/bpf"
	"github.com/sallyport/sallyport/internal/event"
)

const opCount = int(bpf.KernelOpOPS)

// counts are numbers by operation.
type counts [opCount]uint64

// Counters are the kernel's numbers since the programs were loaded, those of a
// predecessor included.
type Counters struct {
	Seen map[event.Operation]uint64 // denials, exactly
	Lost map[event.Operation]uint64 // of them, those that no event stands for
	// RingFull counts, of what was seen, records that found no room; their
	// repeats and numbers may have been told all the same.
	RingFull map[event.Operation]uint64
	// ProcFull counts processes of which only pid, comm, uid and inode are known.
	ProcFull uint64
	// Unregistered counts refusals below the parent cgroup, but in no sandbox.
	Unregistered uint64
	// TableFull counts denials that could not be told from repeats.
	TableFull uint64
	// Skipped counts runs of a program that the kernel left out, because the
	// program ran on that CPU already.
	Skipped uint64
}

// tally compares what the kernel saw with what was told. The told numbers live
// in a map's memory, so that they outlive this process with its pins.
type tally struct {
	mu       sync.Mutex
	counters *ebpf.Map
	mem      *ebpf.Memory
	before   counts // seen when settle ran last
	canaries counts
}

// toldSpec is an array of two numbers by operation: what was told, and what was
// told to be lost.
func toldSpec() *ebpf.MapSpec {
	return &ebpf.MapSpec{Name: "told", Type: ebpf.Array, KeySize: 4, ValueSize: 8,
		MaxEntries: uint32(2 * opCount), Flags: unix.BPF_F_MMAPABLE}
}

func newTally(counters, told *ebpf.Map) (*tally, error) {
	mem, err := told.Memory()
	if err != nil {
		return nil, fmt.Errorf("map what was told: %w", err)
	}
	return &tally{counters: counters, mem: mem}, nil
}

func (t *tally) load(i int) uint64 {
	var b [8]byte
	t.mem.ReadAt(b[:], int64(8*i))
	return binary.NativeEndian.Uint64(b[:])
}

func (t *tally) store(i int, v uint64) {
	var b [8]byte
	binary.NativeEndian.PutUint64(b[:], v)
	t.mem.WriteAt(b[:], int64(8*i))
}

// add notes that an event of n denials was handed on.
func (t *tally) add(op uint8, n uint64) {
	if int(op) < opCount {
		t.mu.Lock()
		t.store(int(op), t.load(int(op))+n)
		t.mu.Unlock()
	}
}

func (t *tally) canary(op uint8, n uint64) {
	if int(op) < opCount {
		t.mu.Lock()
		t.canaries[op] += n
		t.mu.Unlock()
	}
}

// counter sums one counter over the CPUs.
func (t *tally) counter(i int) (sum uint64, err error) {
	var perCPU []uint64
	if err := t.counters.Lookup(uint32(i), &perCPU); err != nil {
		return 0, fmt.Errorf("read counter %d: %w", i, err)
	}
	for _, n := range perCPU {
		sum += n
	}
	return sum, nil
}

func (t *tally) byOp(from bpf.KernelCounter) (c counts, err error) {
	for op := range c {
		if c[op], err = t.counter(int(from) + op); err != nil {
			return c, err
		}
	}
	return c, nil
}

// owed reads what was seen so far, and reports whether there is any of it that
// nobody was told of yet.
func (t *tally) owed() (seen counts, any bool, err error) {
	if seen, err = t.byOp(bpf.KernelCounterCOUNT_SEEN); err != nil {
		return seen, false, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for op, n := range seen {
		any = any || n != t.load(op)+t.load(opCount+op)
	}
	return seen, any, nil
}

// settle finds what was lost, once ring buffer and table have been read: of what
// had been seen the last time, since the rest may still be on its way. seen is
// what had been seen before reading began.
func (t *tally) settle(seen counts) (lost counts) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for op, n := range t.before {
		if known := t.load(op) + t.load(opCount+op); n > known {
			lost[op] = n - known
			t.store(opCount+op, t.load(opCount+op)+lost[op])
		}
	}
	t.before = seen
	return lost
}

// reset forgets all that was seen.
func (t *tally) reset() error {
	none := make([]uint64, ebpf.MustPossibleCPU())
	for i := range uint32(bpf.KernelCounterCOUNTERS) {
		if err := t.counters.Put(i, none); err != nil {
			return fmt.Errorf("clear counter %d: %w", i, err)
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := range 2 * opCount {
		t.store(i, 0)
	}
	t.before, t.canaries = counts{}, counts{}
	return nil
}

// Counters reads the kernel's counters.
func (l *Loader) Counters() (Counters, error) {
	c := Counters{Seen: map[event.Operation]uint64{}, Lost: map[event.Operation]uint64{}, RingFull: map[event.Operation]uint64{}}
	seen, err := l.told.byOp(bpf.KernelCounterCOUNT_SEEN)
	if err != nil {
		return c, err
	}
	full, err := l.told.byOp(bpf.KernelCounterCOUNT_RING_FULL)
	if err != nil {
		return c, err
	}
	l.told.mu.Lock()
	for op := 1; op < opCount; op++ {
		name := operation(uint8(op))
		c.Seen[name] = seen[op] - min(seen[op], l.told.canaries[op])
		c.Lost[name] = l.told.load(opCount + op)
		c.RingFull[name] = full[op]
	}
	l.told.mu.Unlock()
	for _, f := range []struct {
		to *uint64
		at bpf.KernelCounter
	}{{&c.ProcFull, bpf.KernelCounterCOUNT_PROC_FULL}, {&c.Unregistered, bpf.KernelCounterCOUNT_UNREGISTERED},
		{&c.TableFull, bpf.KernelCounterCOUNT_TABLE_FULL}} {
		if *f.to, err = l.told.counter(int(f.at)); err != nil {
			return c, err
		}
	}
	c.Skipped, err = l.skipped("")
	return c, err
}

// skipped sums the kernel's own count of runs that it left out (Linux 5.12), of
// programs whose names begin so.
func (l *Loader) skipped(prefix string) (n uint64, err error) {
	for name, p := range l.programs {
		if !strings.HasPrefix(name, prefix) {
			continue
		}
		stats, err := p.Stats()
		if err != nil {
			return n, fmt.Errorf("ask about program %s: %w", name, err)
		}
		n += stats.RecursionMisses
	}
	return n, nil
}
