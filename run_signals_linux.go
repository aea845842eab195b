package sallyport

import (
	"context"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/sallyport/sallyport/internal/policy"
)

// catchSignals takes them from the start: one that comes too early waits for
// the command, so that none ends this process with its placeholders in place.
func (r *run) catchSignals(signals chan<- os.Signal) {
	r.hangUps = newHangUps()
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2,
		// A warning that nobody reads, and a file that may not grow (RLIMIT_FSIZE),
		// must not end this process, which may hold the terminal.
		syscall.SIGPIPE, syscall.SIGXFSZ)
}

// hungUp passes SIGHUP on if the terminal has gone, and reads the policy anew if
// it has not.
func (r *run) hungUp() {
	switch {
	case !r.hangUps.gone():
		r.updates.reload()
	case !r.hangUps.ignored:
		_ = r.box.Signal(syscall.SIGHUP) // gone: nothing to signal
	}
}

// takeUpdates lets the policy be replaced from now on.
func (r *run) takeUpdates() {
	u := &updates{live: r.live, opts: &r.opts, env: r.prep.env, record: r.record, say: r.sayNow, missing: (*policy.Policy).Unbuilt}
	if a := r.kernel.agentSide(); a != nil {
		u.agree = a.update
	}
	r.updates = u
	u.begin(func(sig os.Signal) error { return r.box.Signal(sig.(syscall.Signal)) })
}

// sayNow does not wait for the end where the command has no terminal to draw on.
func (r *run) sayNow(message, hint string) {
	if r.opts.Warn != nil && !r.box.HasTerminal() {
		r.opts.Warn(message, hint)
		return
	}
	r.warn(message, hint)
}

type warning struct{ message, hint string }

// warn keeps what there is to say while the command runs: it may have drawn all
// over the terminal.
func (r *run) warn(message, hint string) {
	if r.opts.Warn == nil {
		return
	}
	if r.running.Load() {
		r.holding.Lock()
		defer r.holding.Unlock()
		r.held = append(r.held, warning{message, hint})
		return
	}
	r.opts.Warn(message, hint)
}

// speak says what warn has kept.
func (r *run) speak() {
	r.running.Store(false)
	r.holding.Lock()
	held := r.held
	r.held = nil
	r.holding.Unlock()
	for _, w := range held {
		r.warn(w.message, w.hint)
	}
}

// forwardSignals passes the signals that a user or a service manager sends to
// the command; the first end of ctx ends it, and so does the end of its time,
// which stop tells of.
func (r *run) forwardSignals(ctx context.Context, signals <-chan os.Signal) (stop func() (late bool)) {
	done, finished := make(chan struct{}), make(chan bool, 1)
	var timeout, grace <-chan time.Time
	if r.opts.Timeout > 0 {
		timeout = time.After(r.opts.Timeout)
	}
	go func() {
		ended, late := ctx.Done(), false
		for {
			select {
			case <-done:
				finished <- late
				return
			case s := <-signals:
				switch s {
				case syscall.SIGPIPE, syscall.SIGXFSZ:
				case syscall.SIGHUP:
					go r.hungUp()
				default:
					_ = r.box.Signal(s.(syscall.Signal)) // gone: nothing to signal
				}
			case <-ended:
				_ = r.box.Signal(syscall.SIGKILL)
				ended = nil
			case <-timeout:
				late, grace = true, time.After(timeoutGrace)
				r.record(timeOver(r.opts.Timeout, r.box.Payload(), r.prep.policy.Limits()))
				_ = r.box.Signal(syscall.SIGTERM)
				_ = r.box.Signal(syscall.SIGCONT)
			case <-grace:
				_ = r.box.Signal(syscall.SIGKILL)
			}
		}
	}()
	return func() bool { close(done); return <-finished }
}
