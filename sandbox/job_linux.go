package sandbox

import (
	"os"
	"os/signal"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/sandbox/stage2"
)

// job makes the run one job of the caller's shell: it stops when the payload
// stops and goes on when the shell continues it, in the foreground or not.
type job struct {
	box     *Sandbox
	term    *terminal // nil: the payload has none
	signals chan os.Signal
	stopped chan syscall.Signal
	end     chan struct{}
	ended   chan struct{} // nil: it was not started
	asked   bool          // to stop, from outside
}

// newJob catches the signals of job control, from before there is a payload: one
// that stopped this process alone would leave the payload in front.
func newJob(s *Sandbox, t *terminal) *job {
	j := &job{box: s, term: t, signals: make(chan os.Signal, 8), stopped: make(chan syscall.Signal),
		end: make(chan struct{})}
	signal.Notify(j.signals, unix.SIGTSTP, unix.SIGCONT, unix.SIGWINCH)
	return j
}

// start answers them, once there is a payload.
func (j *job) start() {
	j.ended = make(chan struct{})
	go func() {
		defer close(j.ended)
		if j.term != nil {
			defer j.term.restoreOnPanic()
		}
		j.run()
	}()
}

// stop ends the job control. The terminal stays as it is.
func (j *job) stop() {
	if j == nil {
		return
	}
	go signal.Stop(j.signals) // it takes a thread's switch for each
	select {
	case <-j.end:
	default:
		close(j.end)
	}
	if j.ended != nil {
		<-j.ended
	}
}

// payloadStopped is what stage 2 has seen.
func (j *job) payloadStopped(sig syscall.Signal) {
	select {
	case j.stopped <- sig:
	case <-j.end:
	}
}

func (j *job) run() {
	if j.term != nil {
		j.term.resize() // of a change since the payload's was made
		if j.term.eager && !j.term.behind && !j.term.isHeld() {
			j.resume(true, false) // put into the background since then
		}
	}
	for {
		select {
		case <-j.end:
			return
		case sig := <-j.stopped:
			j.payloadHas(sig)
		case sig := <-j.signals:
			switch sig {
			case unix.SIGWINCH:
				if j.term != nil {
					j.term.resize()
				}
			case unix.SIGTSTP:
				j.asked = true
				_ = j.box.Signal(unix.SIGTSTP) // gone: nothing to stop
			case unix.SIGCONT:
				j.resume(j.term != nil && (j.term.eager || j.term.isHeld()), false)
			}
		}
	}
}

// payloadHas answers a stop of the payload.
//
// Without a terminal only a stop that came from outside is answered: one of the
// payload's own making is its own affair.
func (j *job) payloadHas(sig syscall.Signal) {
	asked := j.asked
	j.asked = false
	if j.term == nil {
		if asked {
			j.suspend(unix.Getpid(), unix.SIGTSTP)
			_ = j.box.send(stage2.Command{Continue: true})
		}
		return
	}
	held := j.term.isHeld()
	j.term.settle()
	needs := sig == unix.SIGTTIN || sig == unix.SIGTTOU
	if needs && j.term.foreground() {
		j.resume(true, true)
		return
	}
	j.term.give()
	as := sig
	if sig == unix.SIGSTOP {
		as = unix.SIGTSTP // which does nothing where nobody could continue the job
	}
	resumed := j.suspend(0, as)
	if !resumed && needs {
		// Nobody will ever put this job in the foreground: the payload waits for
		// input that does not come, instead of being stopped again and again.
		_ = j.box.send(stage2.Command{Continue: true, Foreground: true, Claim: true})
		return
	}
	j.term.resize()
	j.resume(held || needs || j.term.eager, needs)
}

// resume lets the payload go on, in the foreground if it is wanted there and
// this process is.
func (j *job) resume(wanted, claim bool) {
	c := stage2.Command{Continue: true}
	if j.term != nil {
		if wanted && j.term.foreground() {
			c.Foreground, c.Claim = true, claim
			if err := j.term.take(); err != nil {
				c.Foreground = false
			}
		} else {
			j.term.give()
		}
	}
	_ = j.box.send(c) // gone: nothing to continue
}

// suspend stops this process, or with 0 its whole job as Ctrl-Z would, and
// returns when it goes on. It says false if the kernel has not stopped it: it
// does not stop a job that no shell could continue (orphaned, setpgid(2)).
func (j *job) suspend(who int, sig syscall.Signal) bool {
	for len(j.signals) > 0 {
		if s := <-j.signals; s == unix.SIGWINCH && j.term != nil {
			j.term.resize()
		}
	}
	goOn := j.box.masks.Load().standStill()
	defer goOn()
	restore := defaultAction(sig)
	defer restore()
	if unix.Kill(who, sig) != nil {
		return false
	}
	// Ticks, and not a deadline, which would be over after a stop.
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for range 20 {
		select {
		case s := <-j.signals:
			if s == unix.SIGCONT {
				return true
			}
		case <-tick.C:
		case <-j.end:
			return false
		}
	}
	return false
}

// defaultAction gives a signal its default action for a while: signal.Reset
// leaves the runtime's handler in place, which ignores it.
func defaultAction(sig syscall.Signal) (restore func()) {
	var none, old [8]uint64 // struct sigaction of the kernel's, and more
	set := func(to, was *[8]uint64) {
		_, _, _ = unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(sig),
			uintptr(unsafe.Pointer(to)), uintptr(unsafe.Pointer(was)), 8, 0, 0)
	}
	set(&none, &old)
	return func() { set(&old, &none) }
}
