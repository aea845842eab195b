package keeper

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/internal/cgroup"
	"github.com/sallyport/sallyport/internal/event"
	"github.com/sallyport/sallyport/internal/process"
	"github.com/sallyport/sallyport/loader"
)

// endLimit bounds how long ending may wait for processes to end.
const endLimit = 10 * time.Second

const watchEvery = time.Second

// keeper is the kernel side of one run.
type keeper struct {
	conn     *net.UnixConn
	uid, gid int
	caller   *process.Process // the supervisor
	check    process.Checker
	rights   *reader

	sending sync.Mutex // of conn
	own     *ground
	l       *loader.Loader
	box     *cgroup.Group    // nil: nothing was placed yet
	target  *process.Process // what was placed
	boxID   atomic.Uint64
	stop    func() // of the reader of records
	read    chan error
}

// serve keeps one run until the supervisor has gone or said so.
func serve(conn *net.UnixConn, uid, gid int) error {
	defer conn.Close()
	// By its number: a parent that has ended is replaced by another.
	caller, err := process.Open(os.Getppid())
	if err != nil {
		return err
	}
	defer caller.Close()
	k := &keeper{conn: conn, uid: uid, gid: gid, rights: &reader{conn: conn},
		caller: caller, check: process.Checker{Parent: "/" + parentName}}
	defer k.rights.close()
	err = k.open()
	hello := &Hello{}
	if err == nil {
		err = k.selfTest(hello)
	}
	if err != nil {
		hello.Err = err.Error()
	}
	if err := errors.Join(k.tell(message{Hello: hello}), err); err != nil {
		return errors.Join(err, k.end())
	}
	k.startReading()
	return errors.Join(k.answer(), k.end())
}

func (k *keeper) open() error {
	if k.uid != 0 { // see loader.Eyes
		if err := unix.Setgroups(nil); err != nil {
			return fmt.Errorf("give up groups: %w", err)
		}
	}
	var err error
	if k.own, err = takeGround(); err != nil {
		return err
	}
	k.l, err = loader.Load(loader.Options{Cgroup: k.own.dir, One: true})
	return err
}

func (k *keeper) selfTest(h *Hello) error {
	go cgroup.Warm() // a process will be placed right after
	found, err := k.l.SelfTest(context.Background())
	if err != nil {
		return err
	}
	for _, f := range found {
		text := ""
		if f.Err != nil {
			text = f.Err.Error()
		}
		h.Findings = append(h.Findings, Finding{Program: f.Program, Purpose: f.Purpose, Tier: f.Tier, State: f.State.String(), Err: text})
	}
	h.Tier, err = loader.Tier(found)
	if h.Tier < event.TierTrace {
		return err
	}
	if err != nil {
		h.Less = err.Error()
	}
	return nil
}

func (k *keeper) tell(m message) error {
	k.sending.Lock()
	defer k.sending.Unlock()
	return send(k.conn, m, nil)
}

// Denied and Lost make the keeper a loader.Handler. A supervisor that does not
// read holds the reader up; what finds no room in the ring buffer is counted.
func (k *keeper) Denied(r loader.Record) {
	if r.Cgroup != k.boxID.Load() {
		return // the self-test's
	}
	_ = k.tell(message{Record: &Record{Event: r.Event, Call: r.Call, TID: r.TID}}) // gone: the end is near
}

func (k *keeper) Lost(op event.Operation, n uint64) {
	_ = k.tell(message{Lost: n, Op: op.String()})
}

// startReading hands records on, until stop is called.
func (k *keeper) startReading() {
	ctx, stop := context.WithCancel(context.Background())
	k.stop, k.read = stop, make(chan error, 1)
	go func() { k.read <- k.l.Read(ctx, k) }()
}

// answer answers requests, one after the other, until there are no more.
func (k *keeper) answer() error {
	in := json.NewDecoder(k.rights)
	for {
		var r request
		if err := in.Decode(&r); err != nil {
			return nil // the supervisor has gone
		}
		m := message{Reply: r.ID}
		var err error
		switch r.Op {
		case opPlace:
			err = k.place(r)
		case opStart:
			err = k.start()
		case opByPID, opByConn:
			m.Who = k.who(r)
		case opFlush:
			k.l.Flush()
		case opEnd:
			if err = k.end(); err != nil {
				m.Err = err.Error()
			}
			return errors.Join(err, k.tell(m))
		default:
			err = fmt.Errorf("%q is nothing that a keeper does", r.Op)
		}
		if err != nil {
			m.Err = err.Error()
		}
		if err := k.tell(m); err != nil {
			return nil
		}
	}
}

// place makes the sandbox and moves a process of the user's into it, which must
// be waiting, and alone.
func (k *keeper) place(r request) error {
	pidfd, err := k.rights.take("process")
	if err != nil {
		return err
	}
	defer pidfd.Close()
	if k.box != nil {
		return errors.New("place process: the sandbox has one already")
	}
	target, err := process.Open(r.PID)
	if err != nil {
		return fmt.Errorf("place process %d: %w", r.PID, cgroup.ErrGone)
	}
	defer func() {
		if k.target != target {
			target.Close()
		}
	}()
	if err := k.check.Placeable(target, k.caller, uint32(k.uid)); err != nil {
		return fmt.Errorf("place process: %w", err)
	}
	rules := loader.Rules{TCP: true, UDP: true, Ping: true, MPTCP: true}
	if r.Rules != nil {
		rules.AnyUnix, rules.NoRefused, rules.Canary = r.Rules.AnyUnix, r.Rules.Supervised, r.Rules.Canary
	}
	box, err := cgroup.Make(k.own.dir, "box")
	if err != nil {
		return err
	}
	k.box = box
	k.boxID.Store(box.Info.ID)
	if err := k.l.AddSandbox(box.Info.ID, rules); err != nil {
		return err
	}
	if r.Rules != nil {
		if err := box.Limit(r.Rules.Limits); err != nil {
			return err
		}
	}
	if err := box.Place(r.PID, int(pidfd.Fd())); err != nil {
		return errors.Join(err, process.Evacuate(box)) // whoever has that number now is not meant
	}
	k.target = target
	go k.watch(target, box.Dir)
	return nil
}

// watch ends the run when its process is in the sandbox's cgroup no more: nothing
// of the kernel's holds it then.
func (k *keeper) watch(target *process.Process, dir string) {
	for range time.Tick(watchEvery) {
		if process.Strayed(target, dir) {
			_ = target.Kill() // the supervisor does the same when it sees that the keeper has gone
			k.conn.Close()
			return
		}
	}
}

func (k *keeper) start() error {
	root, err := k.rights.take("sandbox's root")
	if err != nil {
		return err
	}
	if k.box == nil {
		root.Close()
		return errors.New("start recording: nothing was placed")
	}
	// What the user cannot find out, the record of its sandbox does not tell.
	if err := k.l.StartAs(k.box.Info.ID, root, loader.Eyes{UID: uint32(k.uid), GID: uint32(k.gid)}); err != nil {
		root.Close()
		return err
	}
	return nil
}

func (k *keeper) who(r request) *Who {
	if k.box == nil {
		return nil
	}
	var w Who
	switch {
	case r.Op == opByPID:
		w.Process, w.Ancestors = k.l.ProcessByID(k.box.Info.ID, r.PID)
	case r.Conn != nil:
		from, err := netip.ParseAddrPort(r.Conn.From)
		to, err2 := netip.ParseAddrPort(r.Conn.To)
		if err != nil || err2 != nil && !r.Conn.UDP {
			return nil
		}
		w.Process, w.Ancestors = k.l.ProcessOf(k.box.Info.ID, loader.Connection{UDP: r.Conn.UDP, From: from, To: to})
	}
	return &w
}

// end takes everything away, in the order in which nothing is missed.
func (k *keeper) end() error {
	var errs []error
	if k.box != nil {
		k.l.Flush()
		errs = append(errs, k.box.Kill(endLimit), k.l.RemoveSandbox(k.box.Info.ID), k.box.Remove())
		k.box = nil
	}
	if k.stop != nil {
		k.stop()
		errs = append(errs, <-k.read)
		k.stop = nil
	}
	if k.l != nil {
		errs = append(errs, k.l.Close())
		k.l = nil
	}
	errs = append(errs, k.own.release())
	k.own = nil
	return errors.Join(errs...)
}
