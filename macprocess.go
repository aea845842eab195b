package sallyport

import (
	"context"
	"os"
	"syscall"
	"time"

	"github.com/sallyport/sallyport/seatbelt"
)

// forward passes signals to the command. What a terminal sends has reached it
// already; the first end of ctx ends it.
func (r *macRun) forward(ctx context.Context, p *seatbelt.Payload, signals <-chan os.Signal, ended <-chan struct{}) {
	terminal := isTerminal(r.opts.Stdin)
	cancelled := ctx.Done()
	for {
		select {
		case <-ended:
			return
		case s := <-signals:
			if !terminal || s != syscall.SIGINT && s != syscall.SIGQUIT {
				_ = p.Signal(s.(syscall.Signal)) // gone: nothing to signal
			}
		case <-cancelled:
			_ = p.Signal(syscall.SIGKILL)
			cancelled = nil
		}
	}
}

func isTerminal(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
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
	t := r.tracker.Load()
	for range 5 { // what forks meanwhile is found the next time
		all, err := r.sys.Processes()
		if err != nil {
			r.warn("look for processes left behind: "+err.Error(), "")
			return
		}
		left := t.Left(all)
		if len(left) == 0 {
			return
		}
		for _, p := range left {
			_ = r.sys.Kill(p) // gone: nothing to end
		}
		time.Sleep(10 * time.Millisecond)
	}
	r.warn("processes of the command are still there", "")
}
