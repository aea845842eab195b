package sallyport

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/internal/registry"
	"github.com/sallyport/sallyport/sandbox"
)

// listing is a run's place in the registry, made while the command runs.
type listing struct {
	made    sync.WaitGroup
	reg     *registry.Registration
	clients sync.WaitGroup
}

// list puts the run on the list and serves who asks for it. That takes no time
// of the command's.
func (r *run) list(command []string, dir string) {
	r.listing.made.Go(func() {
		reg, err := registry.Register(registryDirs(), registry.Entry{
			ID: r.id, Name: r.opts.Name, PID: os.Getpid(), Start: time.Now(), Command: command, Dir: dir,
			Tier: r.opts.tier.String(), Host: registry.Here(),
		})
		if err != nil {
			r.warn(err.Error(), "'sallyport ps', 'stop' and 'exec' do not know of it; the run is not affected")
			return
		}
		r.listing.reg = reg
		r.listAsking(reg.AskSocket())
		r.listing.clients.Go(func() {
			for {
				conn, err := reg.Accept()
				if err != nil {
					return
				}
				r.listing.clients.Go(func() { r.box.Serve(conn) })
			}
		})
	})
}

// unlist takes the run off the list, after it has ended, when those whose
// programs have ended with it have been told so.
func (r *run) unlist() {
	r.listing.made.Wait()
	if r.listing.reg == nil {
		return
	}
	r.listing.reg.Stop()
	told := make(chan struct{})
	go func() {
		r.listing.clients.Wait()
		r.listing.reg.Close()
		close(told)
	}()
	select {
	case <-told:
	case <-time.After(clientGrace): // a client that has asked nothing yet
	}
}

// Stop ends a running sandbox, by its id or name: its command gets SIGTERM, and
// after the grace SIGKILL. It returns when the sandbox has ended and its record
// is complete.
func Stop(ctx context.Context, what string, grace time.Duration) error {
	e, err := find(what)
	if err != nil {
		return err
	}
	pidfd, err := unix.PidfdOpen(e.PID, 0)
	if err != nil {
		return ended(e, err)
	}
	defer unix.Close(pidfd)
	if !e.Live() { // seen after the pid was pinned: it is the supervisor's
		return nil
	}
	for _, sig := range []unix.Signal{unix.SIGTERM, unix.SIGCONT} {
		if err := unix.PidfdSendSignal(pidfd, sig, nil, 0); err != nil {
			return ended(e, err)
		}
	}
	if gone, err := waitPidfd(ctx, pidfd, grace); gone || err != nil {
		return err
	}
	if conn, err := e.Dial(); err == nil {
		_ = sandbox.Kill(conn) // if it is not heard, what follows is
		conn.Close()
	}
	if gone, err := waitPidfd(ctx, pidfd, killGrace); gone || err != nil {
		return err
	}
	if err := unix.PidfdSendSignal(pidfd, unix.SIGKILL, nil, 0); err != nil {
		return ended(e, err)
	}
	_, err = waitPidfd(ctx, pidfd, killGrace)
	return err
}

// ended takes a process that is not there for one that has ended.
func ended(e Running, err error) error {
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	return fmt.Errorf("stop sandbox %s: %w", e.ID, err)
}

// waitPidfd waits for the end of a process.
func waitPidfd(ctx context.Context, pidfd int, atMost time.Duration) (gone bool, err error) {
	for end := time.Now().Add(atMost); ; {
		left := time.Until(end)
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}, int(min(max(left, 0), 100*time.Millisecond).Milliseconds()))
		switch {
		case n > 0:
			return true, nil
		case err != nil && !errors.Is(err, unix.EINTR):
			return false, fmt.Errorf("wait for a process: %w", err)
		case ctx.Err() != nil:
			return false, ctx.Err()
		case left <= 0:
			return false, nil
		}
	}
}

// Exec runs a program in a running sandbox and gives its exit status, as Run
// does. An *Error says that it was not started.
func Exec(o ExecOptions) (int, error) {
	files := Options{Stdin: o.Stdin, Stdout: o.Stdout, Stderr: o.Stderr}
	files.setDefaults()
	e, err := find(o.Sandbox)
	if err != nil {
		return statusFailed, err
	}
	conn, err := e.Dial()
	if err != nil {
		return statusFailed, asError(err)
	}
	status, err := sandbox.Join(conn, sandbox.JoinConfig{Argv: o.Command, Env: o.Env, Dir: o.Dir,
		Stdin: files.Stdin, Stdout: files.Stdout, Stderr: files.Stderr})
	if err != nil {
		return statusFailed, asError(err)
	}
	return status.Code, nil
}
