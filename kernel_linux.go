package sallyport

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sallyport/sallyport/internal/cgroup"
	"github.com/sallyport/sallyport/internal/event"
	"github.com/sallyport/sallyport/internal/keeper"
	"github.com/sallyport/sallyport/loader"
	"github.com/sallyport/sallyport/proxy"
)

// KeepKernel starts, as root, what keeps the kernel side of one run that this
// program will make as another user: it returns the entry to add to the
// environment of the exec that gives root up, or none where there is an agent.
func KeepKernel(uid, gid int) (entry string, err error) {
	if a, err := findAgent(); err == nil && a != nil {
		defer a.Abandon()
		if a.Hello().Err == "" {
			return "", nil // the user finds it, too
		}
	}
	f, err := keeper.Start(uid, gid)
	if err != nil {
		return "", err
	}
	defer f.Close()
	os.Unsetenv(keeper.Env)
	return keeper.Hand(f)
}

// kernelClient speaks to who holds the kernel's programs: a keeper of this run's,
// or the machine's agent.
type kernelClient interface {
	Hello() keeper.Hello
	Place(pid int, pidfd *os.File, rules keeper.Rules) error
	Start(root *os.File) error
	ByPID(pid int) (*event.Process, []event.Process)
	ByConnection(c keeper.Connection) (*event.Process, []event.Process)
	Flush() error
	End() error
	Done() <-chan struct{}
	Abandon()
}

// kernelSide is a run's end of its kernel side: tier trace.
type kernelSide struct {
	client kernelClient
	hello  keeper.Hello
	warn   func(message, hint string) // may be nil

	policy   *prepared
	emit     func(event.Event)
	lose     func(n uint64, where string)
	own      map[int]bool // processes of ours in the sandbox: stage 1, stage 2
	begun    atomic.Bool  // what is above is set
	twins    *twins
	throttle *throttle
	mu       sync.Mutex // of throttle
	ending   atomic.Bool
	failed   atomic.Bool // the keeper went before the run
	stop     chan struct{}
}

// agentSide is the machine's agent, if it is that which holds the programs.
func (k *kernelSide) agentSide() *agentSide {
	if k == nil {
		return nil
	}
	a, _ := k.client.(*agentSide)
	return a
}

const hintDoctor = "see 'sallyport doctor'"

func newKernelSide(c kernelClient, warn func(message, hint string)) *kernelSide {
	return &kernelSide{client: c, warn: warn, own: map[int]bool{}, twins: newTwins(), throttle: newThrottle(), stop: make(chan struct{})}
}

// findKernel takes over the keeper that this process was started with, or finds
// the machine's agent, or starts a keeper as root. None: nil. Nothing is recorded
// before begin.
func findKernel(warn func(message, hint string)) (*kernelSide, error) {
	f, err := keeper.Inherited()
	if err == nil && f == nil {
		a, err := findAgent()
		if a != nil {
			k := newKernelSide(a, warn)
			a.note = func(e event.Event, call string) { k.twins.call(e, call) }
			return k, nil
		}
		if err != nil && warn != nil { // as in tier
			warn(err.Error(), hintDoctor)
		}
	}
	if err == nil && f == nil && os.Geteuid() == 0 {
		f, err = keeper.Start(0, 0)
	}
	if err != nil || f == nil {
		return nil, err
	}
	c, err := keeper.Attach(f)
	if err != nil {
		return nil, err
	}
	k := newKernelSide(c, warn)
	c.Serve(keeper.Handler{Denied: k.denied, Lost: k.lost})
	return k, nil
}

// tier waits for the kernel's self-test: reason says why it is not a higher one. A
// kernel side that does not give tier trace is let go.
func (k *kernelSide) tier() (t event.Tier, reason string) {
	if k == nil {
		return event.TierRootless, "it takes root"
	}
	if k.hello = k.client.Hello(); k.hello.Err != "" {
		k.client.Abandon()
		if k.agentSide() != nil && k.warn != nil { // a policy may go without; one that may not says so
			k.warn(k.hello.Err, hintDoctor)
		}
		return event.TierRootless, k.hello.Err
	}
	return k.hello.Tier, k.hello.Less
}

// place moves stage 1, which waits and is alone, into the sandbox's cgroup.
func (r *run) place() error {
	if r.kernel == nil {
		return nil
	}
	err := r.placeStage1()
	if err != nil {
		if _, netErr := r.box.Sockets(); netErr != nil {
			return netErr // why stage 1 has gone
		}
	}
	return err
}

func (r *run) placeStage1() error {
	// What it opened before is the proxy's, and no business of the sandbox's
	// cgroup.
	pid, pidfd, err := r.box.Stage1()
	if err != nil {
		return err
	}
	defer pidfd.Close()
	if a := r.kernel.agentSide(); a != nil {
		return a.register(r, pid)
	}
	limits := r.prep.policy.Limits()
	rules := keeper.Rules{AnyUnix: r.prep.policy.Unix().All, Supervised: true, Limits: cgroupLimits(limits), Canary: loader.CanaryPath(r.id)}
	if err := r.kernel.client.Place(pid, pidfd, rules); err != nil {
		if rules.Limits != (cgroup.Limits{}) {
			return noLimit(limits, err)
		}
		return fmt.Errorf("put up the kernel side: %w", err)
	}
	r.kernel.own[pid] = true
	return nil
}

// startKernel begins the record. It comes last before the payload: what our own
// stages are refused is nobody's attempt.
func (r *run) startKernel() error {
	k := r.kernel
	if k == nil {
		return nil
	}
	pid, root, err := r.box.Root()
	if err != nil {
		return err
	}
	defer root.Close()
	k.own[pid] = true
	k.policy, k.emit, k.lose = r.prep, r.record, r.log.Lost
	k.begun.Store(true)
	r.box.Attribute(k.byPID)
	if err := k.client.Start(root); err != nil {
		return fmt.Errorf("start the kernel's record: %w", err)
	}
	go k.watch(r)
	return nil
}

// watch ends the run if the keeper goes: the boundary is not whole any more. It
// also sees to it that nothing is held back for long.
func (k *kernelSide) watch(r *run) {
	tick := time.NewTicker(packetHold)
	defer tick.Stop()
	for {
		select {
		case <-k.stop:
			return
		case <-k.client.Done():
			if !k.ending.Load() {
				k.failed.Store(true)
				r.box.End()
			}
			return
		case now := <-tick.C:
			k.pass(k.twins.due(now)...)
			k.mu.Lock()
			out := k.throttle.tick(now)
			k.mu.Unlock()
			k.pass(out...)
		}
	}
}

func (k *kernelSide) pass(events ...event.Event) {
	for _, e := range events {
		k.emit(e)
	}
}

// denied takes what the kernel's programs recorded.
func (k *kernelSide) denied(rec keeper.Record) {
	e := rec.Event
	if !k.begun.Load() || e.Process != nil && k.own[e.Process.PID] {
		return // our own stages'
	}
	if e.Count = k.twins.call(e, rec.Call); e.Count == 0 {
		return
	}
	e.Ancestors = k.inside(e.Ancestors)
	classify(k.policy.policy, &e)
	k.mu.Lock()
	out := k.throttle.pass(e, time.Now())
	k.mu.Unlock()
	k.pass(out...)
}

func (k *kernelSide) lost(op event.Operation, n uint64) {
	if k.begun.Load() {
		k.lose(n, "kernel:"+op.String())
	}
}

// inside cuts a list of ancestors before stage 2.
func (k *kernelSide) inside(list []event.Process) []event.Process {
	for i, p := range list {
		if k.own[p.PID] {
			return list[:i]
		}
	}
	return list
}

func (k *kernelSide) byPID(pid int) (*event.Process, []event.Process) {
	p, ancestors := k.client.ByPID(pid)
	return p, k.inside(ancestors)
}

// processOf names the process behind a connection, exactly or not at all.
func (r *run) processOf(e proxy.Endpoints) (*event.Process, []event.Process) {
	k := r.kernel
	if k == nil && e.Proto == "unix" {
		return r.box.ProcessOfUnix(e.Socket)
	}
	if k == nil {
		return r.box.ProcessOf(e.Proto, e.Client, e.Origin)
	}
	switch e.Proto {
	case "unix":
		return k.better(r.box.ProcessOfUnix(e.Socket))
	case "tcp":
		if p, ancestors := r.box.ConnectedBy(e.Client, e.Origin); p != nil {
			return p, ancestors
		}
		if e.Origin.Addr().IsLoopback() { // which the kernel's programs leave alone
			return k.better(r.box.ProcessOf(e.Proto, e.Client, e.Origin))
		}
	}
	p, ancestors := k.client.ByConnection(keeper.Connection{UDP: e.Proto == "udp", From: addrPort(e.Client), To: addrPort(e.Origin)})
	return p, k.inside(ancestors)
}

// better gives what the kernel knows of a process that was found by looking.
func (k *kernelSide) better(p *event.Process, ancestors []event.Process) (*event.Process, []event.Process) {
	if p == nil {
		return nil, nil
	}
	if known, above := k.byPID(p.PID); known != nil {
		return known, above
	}
	return p, ancestors
}

func addrPort(a netip.AddrPort) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}

// supervised takes what the supervisor refused, packet what the packet rules did.
func (r *run) supervised(e event.Event) {
	if r.kernel != nil {
		r.kernel.twins.supervisor(e)
	}
	r.record(e)
}

func (r *run) packet(e event.Event) {
	if r.kernel == nil {
		r.record(e)
		return
	}
	for _, e := range r.kernel.twins.packet(e, time.Now()) {
		r.record(e)
	}
}

// finish completes the record, when the sandbox and what served it have ended,
// and takes the kernel side away.
func (k *kernelSide) finish() error {
	if k == nil {
		return nil
	}
	k.ending.Store(true)
	err := k.client.Flush()
	close(k.stop)
	if !k.begun.Load() {
		return err
	}
	k.mu.Lock()
	out := k.throttle.flush()
	k.mu.Unlock()
	k.pass(append(out, k.twins.all()...)...)
	if err != nil {
		return fmt.Errorf("read the kernel's record to its end: %w", err)
	}
	return nil
}

// look sees whether the kernel side went before a run that has failed: whoever
// sweeps its cgroup can be faster than the news of it.
func (k *kernelSide) look() {
	if k == nil {
		return
	}
	select {
	case <-k.client.Done():
		k.failed.Store(true)
	case <-time.After(200 * time.Millisecond): // something else has failed
	}
}

// end takes the kernel side away, when all that is to be recorded was.
func (k *kernelSide) end() error {
	if k == nil {
		return nil
	}
	if err := k.client.End(); err != nil {
		return fmt.Errorf("end the kernel side: %w", err)
	}
	return nil
}

// abandon lets the kernel side go when the run has failed.
func (k *kernelSide) abandon() {
	if k == nil || k.ending.Swap(true) {
		return
	}
	_ = k.client.End() // what is left of it, the next run's sweeps
	close(k.stop)
}

var errKernelGone = &Error{Err: errors.New("the kernel side of the run has gone: its record and a part of the boundary went with it, so the command was ended"),
	Hint: "was a process named '" + keeper.Name + "' killed?", Status: statusFailed}

// trace says what the self-test found.
func (d *Diagnosis) trace(k *kernelSide, tier event.Tier, reason string) {
	if tier < event.TierTrace {
		cure := "run as root: file denials are recorded then, and the process behind each connection is known exactly"
		if k != nil {
			cure = "boot Linux 5.10 or later with BPF, its type information (/sys/kernel/btf/vmlinux) and cgroup v2; give a container CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN"
		}
		d.add("tier trace", StateLess, "file denials are refused but not recorded: "+reason, cure)
		return
	}
	found := "through the agent"
	if k.agentSide() == nil {
		found = worked(k.hello.Findings)
	}
	d.add("tier trace", StateOK, found, "")
	if tier >= event.TierLSM {
		d.add("tier lsm", StateOK, "LSM programs refuse what mounts and packet rules cannot", "")
		return
	}
	d.add("tier lsm", StateLess, reason, "boot Linux 6.1 or later with bpf in lsm= on its command line (/sys/kernel/security/lsm lists what is)")
}

// worked says which programs a tier was found by.
func worked(list []keeper.Finding) string {
	var lack []string
	n := 0
	for _, f := range list {
		switch {
		case f.State == "works":
			n++
		case f.Tier != event.TierLSM: // why is said of the tier
			lack = append(lack, f.Program+" "+f.State)
		}
	}
	found := fmt.Sprintf("%d kernel programs loaded, attached and seen to work", n)
	if len(lack) > 0 {
		found += "; " + strings.Join(lack, ", ")
	}
	return found
}

// findTier is for who plans and does not run.
func (o *Options) findTier() error {
	k, err := findKernel(o.Warn)
	if err != nil {
		return err
	}
	o.tier, o.whyNot = k.tier()
	if o.tier >= event.TierTrace {
		k.abandon()
	}
	return nil
}
