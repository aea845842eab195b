//go:build linux || darwin

package sallyport

import (
	"context"
	"os"
	"syscall"
	"time"

	"github.com/sallyport/sallyport/internal/event"
	"github.com/sallyport/sallyport/seatbelt"
)

// forward passes signals to the command; the end of ctx ends it, and so does the
// end of its time, which late tells of. Whom a signal finds gone needs none.
func (r *macRun) forward(ctx context.Context, p *seatbelt.Payload, signals <-chan os.Signal, ended <-chan struct{}) (late bool) {
	cancelled := ctx.Done()
	var timeout, grace <-chan time.Time
	if r.opts.Timeout > 0 {
		timeout = time.After(r.opts.Timeout)
	}
	for {
		select {
		case <-ended:
			return late
		case s := <-signals:
			r.pass(p, s.(syscall.Signal))
		case <-cancelled:
			_ = p.Signal(syscall.SIGKILL)
			cancelled = nil
		case <-timeout:
			late, grace = true, time.After(timeoutGrace)
			_ = p.Signal(syscall.SIGTERM)
			_ = p.Signal(syscall.SIGCONT)
		case <-grace:
			_ = p.Signal(syscall.SIGKILL)
		}
	}
}

// pass sends a signal on. The command's group has no parent in its session, so
// that SIGTSTP would not stop it (orphaned, setpgid(2)); SIGCONT continues it
// when this process has been.
func (r *macRun) pass(p *seatbelt.Payload, s syscall.Signal) {
	switch s {
	case syscall.SIGPIPE: // a warning that nobody reads must not end this process
	case syscall.SIGTSTP:
		_ = p.Signal(syscall.SIGSTOP)
		if err := r.sys.Stop(); err != nil {
			_ = p.Signal(syscall.SIGCONT)
		}
	case syscall.SIGHUP:
		go r.hungUp(p)
	default:
		_ = p.Signal(s)
	}
}

// hungUp passes SIGHUP on if the terminal has gone, and reads the policy anew if
// it has not.
func (r *macRun) hungUp(p *seatbelt.Payload) {
	switch {
	case !r.hangUps.gone():
		r.updates.reload()
	case !r.hangUps.ignored:
		_ = p.Signal(syscall.SIGHUP)
	}
}

// takeUpdates lets the policy be replaced from now on.
func (r *macRun) takeUpdates(p *seatbelt.Payload) {
	r.updates = &updates{live: r.live, opts: &r.opts, env: r.env, record: func(e event.Event) { r.append(e); r.sum(e) }, say: r.warn,
		missing: macMissing}
	r.updates.begin(func(sig os.Signal) error { return p.Signal(sig.(syscall.Signal)) })
}

// trackEvery is how often processes are looked at; what starts and ends in
// between is not found.
const trackEvery = 50 * time.Millisecond

func (r *macRun) track(ended <-chan struct{}) {
	t := r.tracker.Load()
	tick := time.NewTicker(trackEvery)
	defer tick.Stop()
	for {
		if all, err := r.sys.Processes(); err == nil {
			t.Update(all)
		}
		select {
		case <-ended:
			return
		case <-tick.C:
		}
	}
}

// owns reports whether a process is the run's.
func (r *macRun) owns(pid int) bool {
	t := r.tracker.Load()
	return t != nil && t.Owns(pid) // nil: the command has not started
}

// endLeft ends what the command has left behind: nothing would record it.
func (r *macRun) endLeft() {
	if err := endTracked(r.sys, r.tracker.Load()); err != nil {
		r.warn(err.Error(), "")
	}
}
