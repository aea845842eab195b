package loader

import "github.com/sallyport/sallyport/internal/event"

// ProcessByID finds a process of a sandbox by its number, as what it is now, with
// its ancestors, nearest first; nil where it is not known.
func (l *Loader) ProcessByID(sandbox uint64, pid int) (*event.Process, []event.Process) {
	var key uint64
	if err := l.maps["pids"].Lookup(uint32(pid), &key); err != nil {
		return nil, nil
	}
	k := l.procs.get(key)
	if k == nil || k.sandbox != sandbox {
		return nil, nil
	}
	p := k.Process
	return &p, l.procs.ancestors(k)
}
