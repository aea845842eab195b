package seatbelt

import (
	"maps"
	"sync"
)

// Proc is a process of the system.
type Proc struct {
	PID, Parent int
	Start       int64 // with PID it names one process for all time
}

// Tracker knows the processes of a run by looking at all of them now and then:
// those it knows, and the children of those. A process whose parent ends before
// it is seen is not found.
type Tracker struct {
	mu    sync.Mutex
	known map[int]Proc // ended ones too: the log speaks of them later
}

// maxTracked bounds the memory of ended processes: with so many, it is lost.
const maxTracked = 1 << 16

// NewTracker begins with these.
func NewTracker(roots ...Proc) *Tracker {
	t := &Tracker{known: map[int]Proc{}}
	for _, p := range roots {
		t.Add(p)
	}
	return t
}

// Add makes one more process the run's.
func (t *Tracker) Add(p Proc) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.known[p.PID] = p
}

// Update takes a list of all processes.
func (t *Tracker) Update(all []Proc) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.known) >= maxTracked {
		t.forgetEnded(all)
	}
	children := map[int][]Proc{}
	var next []Proc
	for _, p := range all {
		if k, ok := t.known[p.PID]; ok && (k.Start == 0 || k.Start == p.Start) {
			t.known[p.PID] = p
			next = append(next, p)
			continue
		}
		children[p.Parent] = append(children[p.Parent], p)
	}
	for len(next) > 0 {
		p := next[0]
		next = append(next[1:], children[p.PID]...)
		t.known[p.PID] = p
		delete(children, p.PID)
	}
}

func (t *Tracker) forgetEnded(all []Proc) {
	running := map[int]bool{}
	for _, p := range all {
		running[p.PID] = true
	}
	maps.DeleteFunc(t.known, func(pid int, _ Proc) bool { return !running[pid] })
}

// Owns reports whether a process is or was the run's.
func (t *Tracker) Owns(pid int) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	_, ok := t.known[pid]
	return ok
}

// Left gives those of all processes that are the run's.
func (t *Tracker) Left(all []Proc) []Proc {
	t.Update(all)
	t.mu.Lock()
	defer t.mu.Unlock()
	var left []Proc
	for _, p := range all {
		if k, ok := t.known[p.PID]; ok && k.Start == p.Start {
			left = append(left, p)
		}
	}
	return left
}
