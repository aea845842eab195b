//go:build linux || darwin

package sallyport

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/sallyport/sallyport/internal/event"
	"github.com/sallyport/sallyport/internal/registry"
	"github.com/sallyport/sallyport/seatbelt"
)

// macListing is a run's place in the list of those that run. It is made before
// anything else, so that whatever a killed run has left is found by the next;
// it is listed when the command runs.
type macListing struct {
	reg     *registry.Registration // nil: there is none
	entry   registry.Entry
	clients sync.WaitGroup
}

func (r *macRun) enlist() {
	if _, err := macSweep(r.sys); err != nil {
		r.warn(err.Error(), "'sallyport doctor --clean' tries again")
	}
	e := registry.Entry{ID: r.id, Name: r.opts.Name, PID: os.Getpid(), Command: r.opts.Command, Dir: r.env.Cwd,
		Tier: event.TierSeatbelt.String(), Host: registry.Here()}.Leaving(registry.Leaves{Files: []string{r.tmp, r.canary}})
	reg, err := registry.Register(registryDirs(), e)
	if err != nil {
		r.warn(err.Error(), "'sallyport ps', 'stop' and 'exec' do not know of it; the run is not affected")
		return
	}
	r.listing.reg, r.listing.entry = reg, e
	r.listing.clients.Go(func() {
		for {
			conn, err := reg.Accept()
			if err != nil {
				return
			}
			r.listing.clients.Go(func() { r.serveClient(conn) })
		}
	})
}

// listed shows the run in the list, with the processes that a kill of this one
// would leave.
func (r *macRun) listed(pids ...int) {
	if r.listing.reg == nil {
		return
	}
	e := r.listing.entry
	e.Start = time.Now()
	left := e.Leaves()
	all, err := r.sys.Processes()
	for _, p := range all {
		for _, pid := range pids {
			if p.PID == pid {
				left.Processes = append(left.Processes, registry.Proc{PID: pid, Start: p.Start})
			}
		}
	}
	if err = errors.Join(err, r.listing.reg.Update(e.Leaving(left))); err != nil {
		r.warn(err.Error(), "")
	}
}

// delist takes the run off the list, when those whose programs have ended with
// it have been told so.
func (r *macRun) delist() {
	reg := r.listing.reg
	if reg == nil {
		return
	}
	reg.Stop()
	told := make(chan struct{})
	go func() {
		r.listing.clients.Wait()
		reg.Close()
		close(told)
	}()
	select {
	case <-told:
	case <-time.After(clientGrace): // a client that has asked nothing yet
	}
}

// macSweep ends and removes what runs have left whose supervisor was killed, and
// names the files.
func macSweep(sys macSystem) (removed []string, err error) {
	entries := registry.Sweep(registryDirs(), func(e registry.Entry) error {
		names, clearErr := clearLeft(sys, e)
		removed = append(removed, names...)
		err = errors.Join(err, clearErr)
		return clearErr
	})
	return append(removed, entries...), err
}

// clearLeft clears what one run has left: what the list says, of which only
// what can be the run's is touched.
func clearLeft(sys macSystem, e registry.Entry) (removed []string, err error) {
	left := e.Leaves()
	if e.Host == registry.Here() {
		t := seatbelt.NewTracker()
		for _, p := range left.Processes {
			if p.PID > 1 && p.Start != 0 {
				t.Add(seatbelt.Proc{PID: p.PID, Start: p.Start})
			}
		}
		err = endTracked(sys, t)
	}
	for _, name := range left.Files {
		if !filepath.IsAbs(name) || !strings.HasPrefix(filepath.Base(name), runPrefix(e.ID)) {
			continue
		}
		if _, statErr := os.Lstat(name); statErr != nil {
			continue // gone
		}
		if rmErr := os.RemoveAll(name); rmErr != nil {
			err = errors.Join(err, rmErr)
			continue
		}
		removed = append(removed, name)
	}
	return removed, err
}

// runPrefix is what the names of a run's own files begin with.
func runPrefix(id string) string { return "sallyport-" + id + "-" }

// endTracked ends what a tracker knows and what that has started.
func endTracked(sys macSystem, t *seatbelt.Tracker) error {
	for range 5 { // what forks meanwhile is found the next time
		all, err := sys.Processes()
		if err != nil {
			return fmt.Errorf("look for processes left behind: %w", err)
		}
		left := t.Left(all)
		if len(left) == 0 {
			return nil
		}
		for _, p := range left {
			_ = sys.Kill(p) // gone: nothing to end
		}
		time.Sleep(10 * time.Millisecond)
	}
	return errors.New("processes of the command are still there")
}

// macStop ends a run. Its number is its supervisor's while that holds the lock
// of its entry; there is no handle for a process here.
func macStop(ctx context.Context, sys macSystem, what string, grace time.Duration) error {
	e, err := find(what)
	if err != nil {
		return err
	}
	signal := func(s syscall.Signal) error {
		if !e.Live() {
			return nil
		}
		if err := syscall.Kill(e.PID, s); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("stop sandbox %s: %w", e.ID, err)
		}
		return nil
	}
	if err := errors.Join(signal(syscall.SIGTERM), signal(syscall.SIGCONT)); err != nil {
		return err
	}
	if gone, err := awaitEnd(ctx, e, grace); gone || err != nil {
		return err
	}
	if conn, err := e.Dial(); err == nil {
		_ = json.NewEncoder(conn).Encode(macRequest{Kill: true}) // if it is not heard, what follows is
		conn.Close()
	}
	if gone, err := awaitEnd(ctx, e, killGrace); gone || err != nil {
		return err
	}
	if err := signal(syscall.SIGKILL); err != nil {
		return err
	}
	_, err = awaitEnd(ctx, e, killGrace)
	_, sweepErr := macSweep(sys) // the command lives on without its supervisor
	return errors.Join(err, sweepErr)
}

// awaitEnd waits until a supervisor has given its entry up.
func awaitEnd(ctx context.Context, e Running, atMost time.Duration) (gone bool, err error) {
	for end := time.Now().Add(atMost); e.Live(); {
		if time.Now().After(end) {
			return false, nil
		}
		select {
		case <-ctx.Done():
			return false, ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
	return true, nil
}
