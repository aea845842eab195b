package sallyport

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/sallyport/sallyport/internal/agent"
	"github.com/sallyport/sallyport/internal/audit"
	"github.com/sallyport/sallyport/internal/event"
	"github.com/sallyport/sallyport/internal/keeper"
	"github.com/sallyport/sallyport/internal/policy"
	"github.com/sallyport/sallyport/loader"
)

// settleLimit is how long the end of a run waits for an agent to write what was
// reported: one that is being restarted is there again by then.
const settleLimit = 10 * time.Second

// agentSide is a run's end of the machine's agent: the kernel side of the run
// and its log in one.
type agentSide struct {
	contact *agent.Contact
	run     *run
	box     *agent.Sandbox // nil: not registered
	note    func(e event.Event, call string)

	mu    sync.Mutex
	stats audit.Stats
}

// findAgent looks for the machine's agent. None where there should be one: why.
func findAgent() (*agentSide, error) {
	path := agent.SocketPath(os.LookupEnv)
	if path == "" {
		return nil, nil
	}
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) && path == agent.DefaultSocket {
		return nil, nil
	}
	c, err := agent.Reach(path)
	if err != nil {
		return nil, err
	}
	return &agentSide{contact: c}, nil
}

// agent says whether the machine's agent answers.
func (d *Diagnosis) agent() {
	path := agent.SocketPath(os.LookupEnv)
	if path == "" {
		d.add("agent", StateLess, "not asked: "+agent.SocketVariable+" is empty", "unset it to use the machine's")
		return
	}
	st, err := agent.Ask(path)
	var refused *agent.Refusal
	switch {
	case err == nil:
		d.add("agent", StateOK, fmt.Sprintf("version %s at %s gives tier %s%s; %d of your %d sandboxes are in use", st.Version, path, st.Tier, recordedBy(st), st.Sandboxes, st.Limit), "")
	case errors.Is(err, fs.ErrNotExist):
		d.add("agent", StateLess, "there is none at "+path,
			"as root: 'sallyport agent', or install its systemd units (docs/agent.md); then ordinary users have tier trace, too")
	case errors.As(err, &refused):
		d.add("agent", StateLess, err.Error(), refused.Hint)
	default:
		d.add("agent", StateLess, err.Error(), "as root: 'systemctl status sallyport-agent', or start 'sallyport agent' again")
	}
}

func recordedBy(st *agent.Status) string {
	switch {
	case st.Recorder == "": // an older agent
		return ""
	case st.Otherwise == "":
		return fmt.Sprintf(", recorded by %s", st.Recorder)
	}
	return fmt.Sprintf(", recorded by %s (%s)", st.Recorder, event.Text(st.Otherwise).Printable())
}

// register makes the run a sandbox of the agent's, with stage 1, which waits and
// is alone, in it.
func (a *agentSide) register(r *run, pid int) (err error) {
	reg := agent.Registration{ID: r.id, Name: r.opts.Name, PID: pid, Canary: true, Env: r.prep.env, Flags: r.opts.Policy.Flags, Absent: r.prep.plan.Absent}
	for _, s := range r.prep.sources {
		reg.Files = append(reg.Files, agent.PolicyFile(s))
	}
	a.run = r
	a.stats = audit.Stats{Attempts: map[event.Verdict]uint64{}, Lost: map[string]uint64{}}
	a.box, err = a.contact.Register(reg, agent.Handler{Event: a.seen, Back: func(away time.Duration) {
		r.warn(fmt.Sprintf("the agent was away for %s: enforcement went on", away.Round(time.Millisecond)), "")
	}})
	if err != nil {
		return agentError(err)
	}
	if a.box.PolicySHA256 != r.prep.policy.SHA256() {
		return &Error{Err: errors.New("register with the agent: it reads the policy otherwise"), Status: statusFailed,
			Hint: "if the administrator's policy has changed: 'systemctl reload sallyport-agent'; else, are both of one version?"}
	}
	return nil
}

// update has the agent agree to another policy, which it parses itself.
func (a *agentSide) update(sources []policy.Source, flags policy.Flags) error {
	u := agent.Update{Flags: flags}
	for _, s := range sources {
		u.Files = append(u.Files, agent.PolicyFile{Name: s.Name, Dir: s.Dir, Path: s.Path, Data: s.Data})
	}
	_, err := a.box.Update(u)
	if err != nil {
		return agentError(err)
	}
	return nil
}

func agentError(err error) error {
	e := &Error{Err: err, Status: statusFailed, Hint: "without the agent: " + agent.SocketVariable + "= sallyport run ..."}
	var refused *agent.Refusal
	if errors.As(err, &refused) && refused.Hint != "" {
		e.Hint = refused.Hint
	}
	return e
}

// seen takes what the kernel saw; it is in the log already.
func (a *agentSide) seen(e event.Event, call string) {
	a.note(e, call)
	a.run.show(e)
}

// Append and the other methods of an audit.Writer make it the run's log.
func (a *agentSide) Append(e event.Event) error { return a.box.Append(e) }

func (a *agentSide) Lost(n uint64, where string) {
	a.mu.Lock()
	a.stats.Lost[where] += n
	a.mu.Unlock()
	_ = a.box.Lost(n) // what cannot be kept is counted in the end
}

func (a *agentSide) Stats() audit.Stats {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.stats
}

func (a *agentSide) Close() error { return nil }

// Hello and the other methods of a keeper's client make it the kernel side.
func (a *agentSide) Hello() keeper.Hello {
	st, err := a.contact.Status()
	if err != nil {
		return keeper.Hello{Err: err.Error()}
	}
	return keeper.Hello{Tier: st.Tier, Less: st.Less}
}

func (a *agentSide) Place(int, *os.File, keeper.Rules) error { return nil } // register did

func (a *agentSide) Start(*os.File) error {
	if err := a.box.Start(); err != nil {
		return agentError(err)
	}
	return nil
}

func (a *agentSide) ByPID(pid int) (*event.Process, []event.Process) { return a.box.Process(pid) }

func (a *agentSide) ByConnection(c keeper.Connection) (*event.Process, []event.Process) {
	from, _ := netip.ParseAddrPort(c.From) // invalid: nobody is found
	to, _ := netip.ParseAddrPort(c.To)
	return a.box.ProcessOf(loader.Connection{UDP: c.UDP, From: from, To: to})
}

func (a *agentSide) Flush() error { return nil } // End does

func (a *agentSide) Done() <-chan struct{} { return a.box.Gone() }

func (a *agentSide) Abandon() {
	if a.box != nil {
		a.box.Close()
	}
	a.contact.Close()
}

// End waits for what was reported to be written, and for what the kernel saw to
// be handed over. What the agent is not there to write goes to the user's own
// log.
func (a *agentSide) End() error {
	defer a.Abandon()
	if a.box == nil {
		return nil
	}
	err := a.keepOwn(a.box.Settle(settleLimit))
	ended, endErr := a.box.End()
	a.mu.Lock()
	defer a.mu.Unlock()
	if n := ended.Lost; n > 0 {
		a.stats.Lost["kernel"] += n
	}
	if n := a.box.Dropped(); n > 0 {
		a.stats.Lost["agent"] += n
	}
	if ended.Missed > 0 {
		a.run.warn(fmt.Sprintf("%d events are in the log, but not in this summary", ended.Missed), "see 'sallyport audit query'")
	}
	return errors.Join(err, endErr)
}

// keepOwn writes events to the user's own log.
func (a *agentSide) keepOwn(list []event.Event) error {
	if len(list) == 0 {
		return nil
	}
	log, err := audit.Create(logDir(a.run.prep.policy, a.run.prep.env.Home), a.run.header())
	if err != nil {
		return err
	}
	for _, e := range list {
		err = errors.Join(err, log.Append(e))
	}
	a.run.warn(fmt.Sprintf("the agent is gone: %d events are in your own log", len(list)), "")
	return errors.Join(err, log.Close())
}

// agentSifter is what an agent makes of what it sees of one sandbox.
type agentSifter struct {
	twins    *twins
	throttle *throttle
}

// NewSifter makes the machine's log say the same as a run's own would.
func NewSifter() agent.Sifter { return &agentSifter{newTwins(), newThrottle()} }

func (s *agentSifter) Denied(r loader.Record, p func() *policy.Policy, now time.Time) []event.Event {
	e := r.Event
	if e.Count = s.twins.call(e, r.Call); e.Count == 0 {
		return nil
	}
	var known *policy.Policy
	if e.Rule == "" && isFile(e.Operation) {
		known = p()
	}
	classify(known, &e)
	return s.throttle.pass(e, now)
}

func (s *agentSifter) Reported(e event.Event) {
	if e.Layer == event.LayerSeccomp {
		s.twins.supervisor(e)
	}
}

func (s *agentSifter) Tick(now time.Time) []event.Event { return s.throttle.tick(now) }
func (s *agentSifter) Flush() []event.Event             { return s.throttle.flush() }

func (s *agentSifter) Held() (n uint64) {
	for _, e := range s.throttle.kinds {
		if e != nil {
			n += e.Count
		}
	}
	return n
}
