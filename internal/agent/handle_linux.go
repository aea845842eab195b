package agent

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/sallyport/sallyport/internal/cgroup"
	"github.com/sallyport/sallyport/internal/event"
	"github.com/sallyport/sallyport/internal/policy"
	"github.com/sallyport/sallyport/loader"
)

// handle does what a request asks for. No message: no answer is wanted.
func (k *conn) handle(r *request) (*message, []*os.File, error) {
	if k.s.draining.Load() {
		return nil, nil, refuse(hintAgain, "the agent is ending")
	}
	switch {
	case r.Status != nil:
		return &message{Status: k.s.status(k.uid)}, nil, nil
	case r.Prepare != nil:
		k.prepare()
		return &message{Status: k.s.status(k.uid)}, nil, nil
	case r.Logs != nil:
		return k.logs(r.Logs)
	case r.Register != nil:
		b, err := k.s.register(k, r.Register)
		if err != nil {
			k.s.began(err, 0)
		}
		return &message{Sandbox: b}, nil, err
	case r.Attach != nil:
		b, err := k.s.attach(k, r.Attach.Sandbox)
		if err != nil {
			return nil, nil, err
		}
		return &message{Sandbox: b.registered(), Written: k.s.writtenOf(b)}, nil, nil
	}
	b := k.box.Load()
	if b == nil {
		return nil, nil, refuse("", "this connection has no sandbox")
	}
	switch {
	case r.Start != nil:
		return &message{}, nil, k.s.start(b)
	case r.ProcessOf != nil:
		p, ancestors := k.s.load.ProcessOf(b.Cgroup, *r.ProcessOf)
		return &message{Processes: &processes{p, b.inside(ancestors)}}, nil, nil
	case r.Process != 0:
		p, ancestors := k.s.load.ProcessByID(b.Cgroup, r.Process)
		return &message{Processes: &processes{p, b.inside(ancestors)}}, nil, nil
	case r.Traffic != nil:
		k.s.reportTraffic(b, *r.Traffic)
		return nil, nil, nil
	case r.Report != nil:
		return k.s.report(b, r.Report)
	case r.Update != nil:
		u, err := k.s.update(b, r.Update)
		return &message{Sandbox: u}, nil, err
	default: // End
		err := k.s.end(b)
		k.box.Store(nil)
		k.s.mu.Lock()
		b.conn = nil
		k.s.mu.Unlock()
		return &message{Ended: &Ended{Lost: k.s.lost.Load() - b.lostAt, Missed: k.out.missedSoFar()}}, nil, err
	}
}

// prepare gets ready for a registration, once a connection, while the caller does
// other things: see cgroup.Warm. Nothing depends on it.
func (k *conn) prepare() {
	if k.warmed {
		return
	}
	k.warmed = true
	k.s.wait.Go(func() {
		for end := time.Now().Add(warmFor); k.box.Load() == nil && !k.ending.Load() && time.Now().Before(end); time.Sleep(warmEvery) {
			if cgroup.Warm() != nil {
				return
			}
		}
	})
}

func (s *Server) status(uid uint32) *Status {
	by, _ := s.load.Recorder()
	return &Status{Version: s.opts.Version, Tier: s.tier, Less: s.less, Recorder: Recorder(by), Otherwise: s.otherwise, Sandboxes: s.quotas.sandboxes(uid), Limit: s.quotas.limits.Sandboxes}
}

// logs names, or opens, the caller's own logs; all of them for root.
func (k *conn) logs(r *logs) (*message, []*os.File, error) {
	name := userLog(k.uid)
	if k.uid == 0 {
		name = ""
	}
	if r.Name != "" {
		f, err := k.s.logs.hand(name, r.Name)
		if err != nil {
			return nil, nil, err
		}
		return &message{Logs: []string{r.Name}}, []*os.File{f}, nil
	}
	names, err := k.s.logs.names(name)
	i, _ := slices.BinarySearch(names, r.After+"\x00") // the first behind it
	names = names[i:]
	const atOnce = 1000
	return &message{Logs: names[:min(len(names), atOnce)], More: len(names) > atOnce}, nil, err
}

func (s *Server) writtenOf(b *box) uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return b.reported
}

// reportLayers are those of which the user's process tells; what the kernel says
// cannot be forged.
var reportLayers = []event.Layer{event.LayerProxy, event.LayerDNS, event.LayerNFT, event.LayerSeccomp, event.LayerSupervisor}

// report writes an event that the user's process saw. Whatever becomes of it, its
// number was used: what could not be written is counted as lost.
func (s *Server) report(b *box, r *report) (*message, []*os.File, error) {
	s.mu.Lock()
	last := b.reported
	if r.Number == last+1 {
		b.reported = r.Number
	}
	s.mu.Unlock()
	switch {
	case r.Number <= last && r.Number > 0: // it came before
		return &message{Written: last}, nil, nil
	case r.Number != last+1:
		return nil, nil, refuse("", fmt.Sprintf("report %d after %d", r.Number, last))
	case r.Lost == 0 && !slices.Contains(reportLayers, r.Event.Layer):
		return nil, nil, refuse("", "layer "+r.Event.Layer.String()+" is the kernel's")
	}
	e := r.Event
	lost := min(r.Lost, 1<<32)
	if lost > 0 {
		e = lossEvent(event.LossReported, "attempts of which the sandbox's supervisor could make no record")
		s.logs.lost(b.UID, lost, event.LossReported)
	}
	e.Sandbox, e.Reported = *b.sandbox.Load(), r.Number
	bound(&e, b.begun, time.Now())
	b.sifting.Lock()
	b.sifter.Reported(e)
	b.sifting.Unlock()
	_ = s.keep(b, e)
	return &message{Written: r.Number}, nil, nil
}

var errThrottled = errors.New("too many events")

// keep writes an event of a sandbox, within its user's rate. What is not written is
// counted as lost.
func (s *Server) keep(b *box, e event.Event) error {
	if !s.quotas.event(b.UID, time.Now()) {
		s.logs.lost(b.UID, max(e.Count, 1), event.LossRate)
		return errThrottled
	}
	return s.logs.append(b.UID, e)
}

// Denied takes what the kernel recorded: loader.Handler.
func (s *Server) Denied(r loader.Record) {
	s.mu.Lock()
	b := s.groups[r.Cgroup]
	var k *conn
	if b != nil {
		k = b.conn
	}
	s.mu.Unlock()
	if b == nil { // below the parent, and not one of ours
		_ = s.logs.ownEvent(r.Event, 0, event.LossOther)
		return
	}
	if e := r.Event; e.Process != nil && b.own[e.Process.PID] {
		return // our own stages'
	}
	r.Event.Ancestors = b.inside(r.Event.Ancestors)
	b.sifting.Lock()
	out := b.sifter.Denied(r, func() *policy.Policy { return s.policyOf(b) }, time.Now())
	s.owe(b)
	b.sifting.Unlock()
	s.pass(b, k, r.Call, out)
}

// policyOf gives a sandbox's policy, which may have to be parsed for it.
func (s *Server) policyOf(b *box) *policy.Policy {
	p, err := s.policies.of(b.ID, &b.journal, func(bytes int) { s.quotas.spend(b.UID, 5+float64(bytes)/1024) })
	if err != nil { // it was parsed before, and has not changed
		panic(err)
	}
	return p
}

// owe notes how much is held back, before the kernel's side is told that it was
// read. Called under box.sifting.
func (s *Server) owe(b *box) {
	if held := b.sifter.Held(); held != b.held {
		s.owed.add(int64(held - b.held))
		b.held = held
	}
}

// pass writes events of the kernel's and hands them to the sandbox's supervisor.
func (s *Server) pass(b *box, k *conn, call string, events []event.Event) {
	for _, e := range events {
		e.Sandbox = *b.sandbox.Load()
		_ = s.keep(b, e)
		if k != nil {
			k.tell(message{Event: &e, Call: call})
		}
	}
}

// tick records what was held back long enough.
func (s *Server) tick(now time.Time) {
	s.mu.Lock()
	var list []*box
	for _, b := range s.boxes {
		list = append(list, b)
	}
	s.mu.Unlock()
	for _, b := range list {
		s.release(b, func() []event.Event { return b.sifter.Tick(now) })
	}
	s.strays()
	if err := s.logs.tick(); err != nil {
		s.warn(err.Error())
	}
}

// release records what a sifter gives back.
func (s *Server) release(b *box, give func() []event.Event) {
	s.mu.Lock()
	k := b.conn
	s.mu.Unlock()
	b.sifting.Lock()
	defer b.sifting.Unlock()
	s.pass(b, k, "", give())
	s.owe(b) // when it is written
}

// Lost takes the number of denials of which there is no record.
func (s *Server) Lost(op event.Operation, n uint64) {
	s.lost.Add(n)
	e := lossEvent(event.LossKernel, "denials of which the kernel had to drop the record; of any sandbox of the machine")
	e.Operation = op
	if err := s.logs.ownEvent(e, n, event.LossKernel); err != nil {
		s.warn("record a loss: " + err.Error())
	}
}

// foreign records that somebody else used a sandbox's connection.
func (s *Server) foreign(b *box, from sender) {
	now := time.Now()
	_ = s.keep(b, event.Event{
		Sandbox: *b.sandbox.Load(), Verdict: event.Deny, Layer: event.LayerSupervisor, Operation: event.UnixConnect,
		Reason: event.Tampered, Rule: "builtin:agent-socket", Time: now, First: now, Last: now, Count: 1,
		Object: event.Object{Socket: "unix/seqpacket"}, Process: &event.Process{PID: from.pid, UID: from.uid},
		Detail: "a process that is not the supervisor spoke to the agent on its connection",
	})
}
