//go:build linux || darwin

package sallyport

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/sallyport/sallyport/internal/audit"
	"github.com/sallyport/sallyport/internal/event"
	"github.com/sallyport/sallyport/internal/policy"
	"github.com/sallyport/sallyport/proxy"
	"github.com/sallyport/sallyport/seatbelt"
)

// macSystem is what a run on macOS asks of the system.
type macSystem interface {
	seatbelt.Exec
	Launch(seatbelt.Launch) (*seatbelt.Payload, error)
	Processes() ([]seatbelt.Proc, error) // the user's
	Kill(seatbelt.Proc) error
	Stop() error // this process, until it is continued
	BootID() string
}

// macRun is one run on macOS in progress.
type macRun struct {
	sys    macSystem
	opts   Options
	env    policy.Env
	policy *policy.Policy
	id     string
	tag    string
	token  string

	tmp      string // the run's own, which it may write
	canary   string // a file that is refused to show that refusals are seen
	listener net.Listener
	profile  *seatbelt.Profile
	log      *audit.Writer
	agg      *audit.Aggregator
	outlets  *outlets
	begun    time.Time
	summary  *audit.Summariser
	summing  sync.Mutex
	proxy    *proxy.Proxy
	serving  sync.WaitGroup
	stream   *seatbelt.Stream
	noStream error // why there is none
	asking   *asking
	live     *live
	updates  *updates
	hangUps  hangUps
	tracker  atomic.Pointer[seatbelt.Tracker]
	guests   macGuests
	listing  macListing
}

// runMac runs a command under Seatbelt. It is the whole of a run on macOS, and
// is tested on other systems with another macSystem.
func runMac(ctx context.Context, sys macSystem, o Options) (*Result, error) {
	o.setDefaults()
	r := &macRun{sys: sys, opts: o, id: newID(), tag: seatbelt.NewTag(), token: newToken(), begun: time.Now()}
	result, err := r.run(ctx)
	return result, asError(err)
}

// newToken is the password of the run's proxy.
func newToken() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	return hex.EncodeToString(b[:])
}

func (r *macRun) run(ctx context.Context) (*Result, error) {
	defer r.release()
	signals := make(chan os.Signal, 8)
	if r.opts.begun == nil {
		r.hangUps = newHangUps()
		signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2,
			syscall.SIGTSTP, syscall.SIGCONT, syscall.SIGWINCH, syscall.SIGPIPE)
	}
	defer signal.Stop(signals)
	if err := r.putUp(); err != nil {
		return nil, err
	}
	payload, err := r.launch()
	if err != nil {
		return nil, err
	}
	r.outlets.begin(time.Since(r.begun), r.proxy.Traffic)
	r.tracker.Store(seatbelt.NewTracker(seatbelt.Proc{PID: payload.PID()}))
	r.takeUpdates(payload)
	defer r.updates.end()
	r.guests.begin(payload)
	ended := make(chan struct{})
	var helpers sync.WaitGroup
	late := false
	helpers.Go(func() { late = r.forward(ctx, payload, signals, ended) })
	helpers.Go(func() { r.track(ended) })
	helpers.Go(func() { r.listed(payload.PID(), r.stream.PID()) })
	status, err := payload.Wait()
	close(ended)
	helpers.Wait()
	r.guests.end()
	r.endLeft()
	if late {
		status = statusTimeout
	}
	result, err := r.finish(status, err)
	if result != nil {
		result.TimedOut = late
	}
	return result, err
}

// putUp makes everything that must stand before the command starts: the
// profile is tried before anything is served.
func (r *macRun) putUp() error {
	var err error
	if r.env, r.policy, err = macPolicy(&r.opts); err != nil {
		return err
	}
	r.live = newLive(r.policy)
	r.opts.Timeout = timeLimit(r.opts.Timeout, r.policy.Limits())
	if err := seatbelt.Preflight(r.sys, nil, 0); err != nil {
		return err
	}
	temp := filepath.Join(ResolvePath(os.TempDir()), runPrefix(r.id))
	r.tmp, r.canary = temp+"tmp", temp+"canary"
	r.enlist()
	if err := r.makeFiles(); err != nil {
		return err
	}
	if r.listener, err = net.Listen("tcp4", "127.0.0.1:0"); err != nil {
		return fmt.Errorf("make proxy: %w", err)
	}
	r.profile, err = seatbelt.Build(seatbelt.Input{Policy: r.policy, FS: macFS(r.env), Home: r.env.Home, Tmp: r.tmp, Tag: r.tag,
		Ports: []uint16{r.port().Port()}})
	if err != nil {
		return err
	}
	if err := seatbelt.Preflight(r.sys, r.profile, 0); err != nil {
		return err
	}
	if err := r.openLog(); err != nil {
		return err
	}
	if err := r.watchLog(); err != nil {
		return err
	}
	return r.serve()
}

func (r *macRun) port() netip.AddrPort { return r.listener.Addr().(*net.TCPAddr).AddrPort() }

// makeFiles makes the run's own temporary directory, and outside of it the file
// that the canaries are refused.
func (r *macRun) makeFiles() error {
	if err := os.Mkdir(r.tmp, 0o700); err != nil {
		r.tmp = "" // not ours
		return fmt.Errorf("make temporary directory: %w", err)
	}
	f, err := os.OpenFile(r.canary, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		r.canary = ""
		return fmt.Errorf("make canary: %w", err)
	}
	return f.Close()
}

func (r *macRun) openLog() error {
	host, _ := os.Hostname() // an event without it is still an event
	logs := logDir(r.policy, r.env.Home)
	log, err := audit.Create(logs, audit.Header{
		Sandbox: r.identity(), Host: host, BootID: r.sys.BootID(),
	})
	if err != nil {
		return noLog(err)
	}
	r.log = log
	r.summary = audit.NewSummariser(func(e event.Event) string { return macSuggest(r.live.of(e), e) })
	r.summary.Ignore(func(e event.Event) bool { return ignores(r.policy, r.opts.Command, e) })
	r.agg = audit.NewAggregator(log, audit.AggregatorOptions{})
	r.outlets = newOutlets(&outlets{exe: r.env.Exe, rules: r.policy.Audit(), logs: logs, version: r.opts.Version, tier: event.TierSeatbelt, warn: r.warn})
	return nil
}

func (r *macRun) identity() event.Sandbox {
	return event.Sandbox{ID: r.id, Name: event.Text(r.opts.Name), PolicySHA256: r.live.now.Load().SHA256(), Tier: event.TierSeatbelt}
}

// watchLog begins to read what the kernel refuses. Without it a run enforces
// all and records what the proxy sees, unless the policy wants it all.
func (r *macRun) watchLog() error {
	stream, err := seatbelt.StartStream(seatbelt.StreamConfig{
		Exec: r.sys, Tag: r.tag, CanaryFile: r.canary, Emit: r.violation, Owns: r.owns})
	if err == nil {
		r.stream = stream
		return nil
	}
	r.noStream = err
	var hinted *seatbelt.Error
	hint := ""
	if errors.As(err, &hinted) {
		hint = hinted.Hint
	}
	if req := r.policy.Require(); req.Audit {
		return &Error{Err: fmt.Errorf("%s: the policy requires a complete record: %w", req.AuditRule, err), Hint: hint, Status: statusFailed}
	}
	r.warn("what the kernel refuses is not recorded: "+err.Error(), hint)
	return nil
}

// violation records a refusal of the kernel's.
func (r *macRun) violation(rec seatbelt.Record, v seatbelt.Violation, by seatbelt.Attribution) {
	e := v.Event(rec)
	seatbelt.Explain(&e, r.policy)
	e.Process.UID = uint32(os.Getuid())
	e.Detail += event.Text("; attribution=" + by.String())
	r.append(e)
	if v.Noise() {
		e.Reason = event.System // counted, not listed
	}
	r.sum(e)
}

// record takes every event of the proxy's, which does not know who called.
func (r *macRun) record(e event.Event) {
	if e.Detail != "" {
		e.Detail += "; "
	}
	e.Detail += event.Text("attribution=" + seatbelt.ByNothing.String())
	r.append(e)
	r.sum(e)
}

func (r *macRun) append(e event.Event) {
	e.Sandbox = r.identity()
	if err := r.agg.Append(e); err != nil {
		return // counted by the log, and said at the end
	}
	r.asking.event(e)
	if r.opts.OnEvent != nil {
		r.opts.OnEvent(e)
	}
}

func (r *macRun) sum(e event.Event) {
	r.summing.Lock()
	defer r.summing.Unlock()
	r.summary.Add(e)
}

func (r *macRun) serve() error {
	var err error
	if r.asking, err = startAsking(&r.opts, r.policy, r.env, r.id); err != nil {
		return err
	}
	p, err := proxy.New(proxy.Config{Decider: r.live, Emit: r.record, Ask: r.asking.ask(), Parent: r.live.parent, Self: []netip.AddrPort{r.port()}, Token: r.token})
	if err != nil {
		return err
	}
	r.proxy = p
	r.openAsking()
	r.serving.Go(func() {
		_ = p.Serve(context.Background(), proxy.Listeners{TCP: []net.Listener{r.listener}})
	})
	return nil
}

func (r *macRun) launch() (*seatbelt.Payload, error) {
	return r.start(r.opts.Command, r.env.Cwd, nil, [3]*os.File{r.opts.Stdin, r.opts.Stdout, r.opts.Stderr})
}

// finish completes the record after the payload has ended.
func (r *macRun) finish(status int, runErr error) (*Result, error) {
	missing := macNotRecorded()
	if r.stream != nil {
		stats := r.stream.Stop()
		r.stream = nil
		missing = append(missing, stats.Incomplete...)
		if stats.Lost > 0 {
			r.log.Lost(stats.Lost, "seatbelt")
		}
		if stats.Unattributed > 0 {
			missing = append(missing, fmt.Sprintf("%d cut reports that may have been of this run", stats.Unattributed))
		}
	} else {
		missing = append(missing, "files, sockets and services: "+r.noStream.Error())
	}
	r.stopProxy()
	r.outlets.flush()
	err := r.agg.Close()
	stats := r.log.Stats()
	err = errors.Join(err, r.log.Close())
	r.log = nil
	r.outlets.close()
	if err != nil {
		r.warn("the audit log is not complete: "+err.Error(), "")
	}
	if runErr != nil {
		return nil, runErr
	}
	sum := r.summary.Summary()
	sum.Sandbox, sum.PolicySHA256, sum.Tier = r.id, r.live.now.Load().SHA256(), event.TierSeatbelt
	sum.Exit, sum.Lost, sum.NotRecorded = status, stats.LostTotal(), missing
	return &Result{Status: status, Timeout: r.opts.Timeout, Summary: sum}, nil
}

// macNotRecorded is what no run on macOS can record.
func macNotRecorded() []string {
	return []string{"addresses of connections around the proxy (the log has the port alone)",
		"the process behind a connection through the proxy"}
}

func (r *macRun) stopProxy() {
	if r.proxy != nil {
		r.asking.end()
		r.proxy.Close()
		r.serving.Wait()
		r.proxy = nil
	}
}

func (r *macRun) warn(message, hint string) {
	if r.opts.Warn != nil {
		r.opts.Warn(message, hint)
	}
}

// release frees what is left, whatever happened before.
func (r *macRun) release() {
	if r.stream != nil {
		r.stream.Stop()
	}
	r.stopProxy()
	r.asking.close()
	if r.listener != nil {
		r.listener.Close()
	}
	if r.log != nil {
		r.agg.Close()
		r.log.Close()
	}
	r.outlets.close()
	if r.canary != "" {
		os.Remove(r.canary)
	}
	if r.tmp != "" {
		if err := os.RemoveAll(r.tmp); err != nil {
			r.warn("remove temporary directory: "+err.Error(), "remove it by hand")
		}
	}
	r.delist()
}
