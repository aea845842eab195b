package sallyport

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sallyport/sallyport/internal/audit"
	"github.com/sallyport/sallyport/internal/cgroup"
	"github.com/sallyport/sallyport/internal/event"
	"github.com/sallyport/sallyport/internal/keeper"
	"github.com/sallyport/sallyport/internal/plan"
	"github.com/sallyport/sallyport/internal/policy"
	"github.com/sallyport/sallyport/loader"
	"github.com/sallyport/sallyport/proxy"
	"github.com/sallyport/sallyport/sandbox"
)

// Init must be the first thing that main does in every program that calls Run:
// the stages of a sandbox are started from the same binary.
func Init() {
	keeper.Init()
	loader.Init()
}

// canaryAddr is in TEST-NET-1 (RFC 5737): nothing is ever routed there.
var canaryAddr = netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, 1}), 7)

// prepared is a run before anything is put up.
type prepared struct {
	env    policy.Env
	policy *policy.Policy // at the start
	plan   *plan.Plan
	// sources are the files that the policy was made of.
	sources []policy.Source
}

// prepare loads the policy and plans the run. It performs nothing.
func prepare(o *Options) (*prepared, error) {
	env, err := runEnv(o)
	if err != nil {
		return nil, err
	}
	load := o.Policy
	load.Env = env
	var sources []policy.Source
	load.seen = func(s policy.Source) { sources = append(sources, s) }
	p, err := LoadPolicy(load)
	if err != nil {
		return nil, err
	}
	if err := checkBuilt(p, p.Unbuilt(), o.Warn); err != nil {
		return nil, err
	}
	caps, err := sandbox.Probe()
	if err != nil {
		return nil, err
	}
	if o.learnTier != nil {
		o.learnTier()
	}
	made, err := plan.Make(plan.Input{
		Policy: p, Caps: caps, FS: hostFS{}, Argv: o.Command,
		Cwd: env.Cwd, Home: env.Home, RuntimeDir: env.RuntimeDir, Exe: env.Exe,
		Root: os.Geteuid() == 0, Environ: os.Environ(), Extra: o.Env, Traced: o.tier >= event.TierTrace,
		// The agent makes its rules of the policy alone.
		ByName: o.tier >= event.TierLSM, Linked: !o.agent,
	})
	if err != nil {
		return nil, err
	}
	if err := checkRequired(p.Require(), made, o.tier, o.whyNot); err != nil {
		return nil, err
	}
	return &prepared{env, p, made, sources}, nil
}

// checkRequired holds a plan against what the policy requires of a run.
func checkRequired(r policy.Require, p *plan.Plan, tier event.Tier, whyNot string) error {
	if r.Tier > tier {
		if whyNot != "" {
			whyNot = " (" + whyNot + ")"
		}
		return &Error{Err: fmt.Errorf("%s: the policy requires tier %s, this run has %s%s", r.TierRule, r.Tier, tier, whyNot),
			Hint: "lower require.tier, or run where that tier is available: see 'sallyport doctor'", Status: statusFailed}
	}
	if r.Audit && len(p.NotRecorded) > 0 {
		return &Error{Err: fmt.Errorf("%s: the policy requires a complete record, and these denials would not be in it: %s",
			r.AuditRule, strings.Join(p.NotRecorded, "; ")), Hint: "drop require.audit, or run at a tier that records them", Status: statusFailed}
	}
	return nil
}

// runLog is where a run's events go: a file of the user's, or the machine's log.
type runLog interface {
	audit.Appender
	Lost(n uint64, where string)
	Stats() audit.Stats
	Close() error
}

// run is one run in progress.
type run struct {
	opts    Options
	prep    *prepared
	id      string
	box     *sandbox.Sandbox
	kernel  *kernelSide // nil: tier rootless
	stubs   []*sandbox.Stubs
	log     runLog
	agg     *audit.Aggregator
	outlets *outlets
	begun   time.Time
	proxy   *proxy.Proxy
	summary *audit.Summariser
	before  map[plan.Protected]bool
	known   map[identity]string // what was before
	running atomic.Bool         // the command may have the terminal
	held    []warning           // until it has not
	holding sync.Mutex          // of held
	token   [32]byte
	serving sync.WaitGroup
	listing listing
	live    *live
	updates *updates
	hangUps hangUps
	asking  *asking       // nil: nobody is asked, or told
	limits  *cgroup.Watch // nil: there are none
	unseen  error         // why what they stop is not seen
}

// Run runs a command inside a boundary and returns when it has ended and its
// record is complete. An *Error says that the boundary could not be put up: the
// command was not started then. Cancelling ctx ends the command.
func Run(ctx context.Context, o Options) (*Result, error) {
	o.setDefaults()
	r := &run{opts: o, id: newID(), begun: time.Now()}
	result, err := r.run(ctx)
	return result, asError(err)
}

func (r *run) run(ctx context.Context) (*Result, error) {
	defer r.release()
	if err := sandbox.Nested(); err != nil {
		return nil, err
	}
	signals := make(chan os.Signal, 8)
	if r.opts.begun == nil {
		r.catchSignals(signals)
	}
	defer func() { go signal.Stop(signals) }() // it takes a thread's switch for each
	var err error
	if r.kernel = r.opts.kernel; r.kernel == nil {
		if r.kernel, err = findKernel(r.warn); err != nil {
			return nil, err
		}
	}
	if err := r.putUp(); err != nil {
		if r.running.Load() {
			r.kernel.look()
		}
		if r.kernel != nil && r.kernel.failed.Load() {
			err = errKernelGone
		}
		return nil, err
	}
	r.list(r.prep.plan.Argv, r.prep.plan.Dir)
	r.takeUpdates()
	stop := r.forwardSignals(ctx, signals)
	status, err := r.box.Wait()
	late := stop()
	r.updates.end()
	r.unlist()
	return r.finish(status, late, err)
}

// startGC is GOGC for a start, which keeps most of what it makes: below 16 MB
// nothing is looked for. With 100 that begins at 4 MB, and is a fifth of the
// start with a large policy.
const startGC = 400

// putUp builds the boundary from the outside in. What does not depend on one
// another is done side by side: the namespaces are made while the policy is
// read, and the network and the record while bubblewrap mounts.
func (r *run) putUp() error {
	if r.opts.begun == nil { // the process is ours
		defer debug.SetGCPercent(debug.SetGCPercent(startGC))
	}
	r.opts.learnTier = func() {
		if r.opts.tier, r.opts.whyNot = r.kernel.tier(); r.opts.tier < event.TierTrace {
			r.kernel = nil
		}
		r.opts.agent = r.kernel.agentSide() != nil
	}
	planned := make(chan error, 1)
	go func() { planned <- r.plan() }()
	// Here and not there: it takes longer, and a goroutine may wait for a thread.
	var boxErr error
	r.box, boxErr = sandbox.Start(sandbox.Config{
		Network: plan.DefaultNetwork(), Stdin: r.opts.Stdin, Stdout: r.opts.Stdout, Stderr: r.opts.Stderr, Emit: r.supervised})
	if err := <-planned; err != nil {
		return err
	}
	if boxErr != nil {
		return boxErr
	}
	r.live = newLive(r.prep.policy)
	r.opts.Timeout = timeLimit(r.opts.Timeout, r.prep.policy.Limits())
	r.summary = audit.NewSummariser(r.suggest)
	r.summary.Ignore(func(e event.Event) bool { return ignores(r.prep.policy, r.opts.Command, e) })
	if err := r.place(); err != nil {
		return err
	}
	if err := r.limit(); err != nil {
		return err
	}
	if err := r.box.Launch(r.prep.plan); err != nil {
		return err
	}
	// Bubblewrap mounts meanwhile.
	if err := r.openLog(); err != nil {
		return err
	}
	if err := r.serve(); err != nil {
		return err
	}
	var identified sync.WaitGroup // before there is anybody inside, and whatever the host does then
	var unknown error
	identified.Go(func() { unknown = r.identifyProtected() })
	defer identified.Wait()
	canary := sandbox.Canary{Addr: canaryAddr.Addr().As4(), Port: int(canaryAddr.Port()), Token: r.token}
	if r.kernel != nil {
		canary.Refused = loader.CanaryPath(r.id)
	}
	if err := r.box.Prove(canary); err != nil {
		return err
	}
	r.proxy.ServeUnix(r.box.UnixProxy())
	if err := r.openPorts(); err != nil {
		return err
	}
	if err := r.startKernel(); err != nil {
		return err
	}
	if r.unseen = r.watchLimits(); r.unseen != nil && r.prep.policy.Require().Audit {
		return r.unseen
	}
	r.asking.startTerminal(r.screen())
	r.asking.startDesktop(&r.opts)
	if identified.Wait(); unknown != nil {
		return unknown
	}
	r.running.Store(true)
	if err := r.box.Release(); err != nil {
		return err
	}
	r.outlets.begin(time.Since(r.begun), r.proxy.Traffic)
	return r.box.KeepMasks(sandbox.MaskOptions{Stub: r.stub, Warn: r.warn})
}

func (r *run) openLog() error {
	out := &outlets{exe: r.prep.env.Exe, rules: r.prep.policy.Audit(), logs: logDir(r.prep.policy, r.prep.env.Home), version: r.opts.Version, tier: r.opts.tier, warn: r.warn}
	if a := r.kernel.agentSide(); a != nil {
		r.log, out.report = a, a.box.Traffic
	} else {
		log, err := audit.Create(out.logs, r.header())
		if err != nil {
			return noLog(err)
		}
		r.log = log
	}
	r.agg = audit.NewAggregator(r.log, audit.AggregatorOptions{})
	r.outlets = newOutlets(out)
	return nil
}

func (r *run) header() audit.Header {
	host, _ := os.Hostname() // an event without it is still an event
	boot, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return audit.Header{
		Sandbox: r.identity(), Host: host, BootID: strings.TrimSpace(string(boot)),
	}
}

func (r *run) identity() event.Sandbox {
	return event.Sandbox{ID: r.id, Name: event.Text(r.opts.Name), PolicySHA256: r.live.now.Load().SHA256(), Tier: r.opts.tier}
}

// record takes every event of the run.
func (r *run) record(e event.Event) {
	e.Sandbox = r.identity() // by which it was decided; the log writes it later
	if err := r.agg.Append(e); err != nil {
		return // counted by the log, and said at the end
	}
	r.show(e)
}

// show takes every event that is in the log.
func (r *run) show(e event.Event) {
	r.summary.Add(e)
	r.asking.event(e)
	if r.opts.OnEvent != nil {
		r.opts.OnEvent(e)
	}
}

// serve starts the proxy and the reader of refused packets.
func (r *run) serve() error {
	if _, err := rand.Read(r.token[:]); err != nil {
		return fmt.Errorf("make canary: %w", err)
	}
	net := r.prep.plan.Network
	var err error
	if r.asking, err = startAsking(&r.opts, r.prep.policy, r.prep.env, r.id); err != nil {
		return err
	}
	p, err := proxy.New(proxy.Config{
		Decider:   r.live,
		Emit:      r.record,
		Parent:    r.live.parent,
		Ask:       r.asking.ask(),
		ProcessOf: r.processOf,
		Self:      []netip.AddrPort{net.Proxy4, net.Proxy6},
		Canary:    proxy.Canary{Addr: canaryAddr, Token: r.token},
	})
	if err != nil {
		return err
	}
	socks, err := r.box.Sockets()
	if err != nil {
		return err
	}
	r.proxy = p
	r.serving.Go(func() {
		_ = p.Serve(context.Background(), proxy.Listeners{TCP: socks.TCP, DNSPacket: socks.DNSPacket, DNSStream: socks.DNSStream})
	})
	r.serving.Go(func() {
		lost := func(n uint64) { r.log.Lost(n, "nflog") }
		if err := r.box.ReadPackets(r.packet, lost); err != nil {
			r.log.Lost(1, "nflog")
			r.warn("refused packets are not all recorded: "+err.Error(), "")
		}
	})
	return nil
}

// finish completes the record after the payload has ended.
func (r *run) finish(status sandbox.ExitStatus, late bool, runErr error) (*Result, error) {
	r.speak()
	r.limits.End()
	if e, is := endedBy(status.Signal); is && runErr == nil {
		r.record(e)
	}
	if late {
		status.Code = statusTimeout
	}
	r.stopServing()
	if runErr != nil {
		r.kernel.look()
	}
	r.outlets.flush()
	if err := r.kernel.finish(); err != nil && !r.kernel.failed.Load() {
		r.warn(err.Error(), "")
	}
	planted := r.reportPlanted()
	err := r.agg.Close()
	r.asking.close()
	if endErr := r.kernel.end(); endErr != nil && !r.kernel.failed.Load() {
		r.warn(endErr.Error(), "")
	}
	stats := r.log.Stats()
	err = errors.Join(err, r.log.Close())
	r.log = nil
	r.outlets.close()
	if err != nil {
		r.warn("the audit log is not complete: "+err.Error(), "")
	}
	if r.kernel != nil && r.kernel.failed.Load() {
		return nil, errKernelGone
	}
	if runErr != nil {
		return nil, runErr
	}
	sum := r.summary.Summary()
	sum.Sandbox, sum.PolicySHA256, sum.Tier = r.id, r.live.now.Load().SHA256(), r.opts.tier
	sum.Exit, sum.Lost, sum.NotRecorded = status.Code, stats.LostTotal(), r.notRecorded()
	sum.Planted = planted
	return &Result{Status: status.Code, TimedOut: late, Timeout: r.opts.Timeout, Summary: sum}, nil
}

// stopServing ends the proxy and the reader of refused packets, when both have
// recorded all that came before.
func (r *run) stopServing() {
	if err := r.box.StopPackets(); err != nil {
		r.warn(err.Error(), "")
	}
	r.asking.end()
	r.proxy.Close()
	r.serving.Wait()
	r.proxy = nil
}

// suggest gives the smallest policy change that would let a denied attempt
// through, if there is one: none would let a UDP packet or a false name pass.
func (r *run) suggest(e event.Event) string {
	return suggest(r.live.of(e), e)
}

func (r *run) notRecorded() []string {
	list := r.prep.plan.NotRecorded
	if why := r.box.NoPing; why != "" {
		list = append(list, "ICMP echo: "+why)
	}
	if r.unseen != nil {
		list = append(list, "what limits stop: "+r.unseen.Error())
	}
	return list
}

// release frees what is left, whatever happened before.
func (r *run) release() {
	serving := r.proxy != nil
	if serving {
		r.stopServing()
	}
	if r.box != nil {
		r.box.Close()
		if socks, _ := r.box.Sockets(); !serving {
			socks.Close()
		}
	}
	r.asking.close()
	r.limits.End()
	r.kernel.abandon()
	r.speak()
	for _, s := range r.stubs {
		if err := s.Remove(); err != nil {
			r.warn(err.Error(), "remove the named files by hand")
		}
	}
	if r.log != nil {
		r.agg.Close()
		r.log.Close()
	}
	r.outlets.close()
}

// sandboxAdvice takes hint and status from the sandbox's errors.
func sandboxAdvice(err error, status int) (string, int) {
	var e *sandbox.Error
	if !errors.As(err, &e) {
		return sandbox.LimitHint(err), status
	}
	if e.Status != 0 {
		status = e.Status
	}
	return e.Hint, status
}
