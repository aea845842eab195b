package agent

import (
	"time"

	"github.com/sallyport/sallyport/internal/event"
	"github.com/sallyport/sallyport/internal/process"
)

// strays ends sandboxes whose first process is in their cgroup no more: somebody
// with power over cgroups has moved it, and nothing of the kernel's holds it.
func (s *Server) strays() {
	s.mu.Lock()
	var list []*box
	for _, b := range s.boxes {
		if !b.ending && b.stage1 != nil && process.Strayed(b.stage1, b.group.Dir) {
			_ = b.stage1.Kill() // ended: the same; it is closed when ending is set
			list = append(list, b)
		}
	}
	s.mu.Unlock()
	for _, b := range list {
		s.warn("sandbox " + b.ID + " is ended: its processes were moved out of its cgroup")
		now := time.Now()
		_ = s.keep(b, event.Event{
			Sandbox: *b.sandbox.Load(), Verdict: event.Deny, Layer: event.LayerSupervisor, Operation: event.OpUnknown,
			Reason: event.Tampered, Rule: "builtin:agent-cgroup", Time: now, First: now, Last: now, Count: 1,
			Detail: "the sandbox's processes were moved out of its cgroup; it was ended",
		})
		s.mu.Lock()
		k := b.conn
		s.mu.Unlock()
		if err := s.end(b); err != nil {
			s.warn(err.Error())
		}
		if k != nil {
			k.c.Close() // what reports it has on their way come by another, which is refused
		}
	}
}
