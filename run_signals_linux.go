package sallyport

import (
	"context"
	"os"
	"syscall"
	"time"
)

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
				if s != syscall.SIGPIPE && s != syscall.SIGXFSZ {
					_ = r.box.Signal(s.(syscall.Signal)) // gone: nothing to signal
				}
			case <-ended:
				_ = r.box.Signal(syscall.SIGKILL)
				ended = nil
			case <-timeout:
				late, grace = true, time.After(timeoutGrace)
				_ = r.box.Signal(syscall.SIGTERM)
				_ = r.box.Signal(syscall.SIGCONT)
			case <-grace:
				_ = r.box.Signal(syscall.SIGKILL)
			}
		}
	}()
	return func() bool { close(done); return <-finished }
}
