package keeper

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/internal/cgroup"
	"github.com/sallyport/sallyport/internal/event"
	"github.com/sallyport/sallyport/loader"
)

// endLimit bounds how long ending may wait for processes to end.
const endLimit = 10 * time.Second

// keeper is the kernel side of one run.
type keeper struct {
	conn     *net.UnixConn
	uid, gid int
	rights   *reader

	sending sync.Mutex // of conn
	own     *ground
	l       *loader.Loader
	box     *cgroup.Group // nil: nothing was placed yet
	boxID   atomic.Uint64
	stop    func() // of the reader of records
	read    chan error
}

// serve keeps one run until the supervisor has gone or said so.
func serve(conn *net.UnixConn, uid, gid int) error {
	k := &keeper{conn: conn, uid: uid, gid: gid, rights: &reader{conn: conn}}
	defer conn.Close()
	defer k.rights.close()
	err := k.open()
	hello := &Hello{}
	if err == nil {
		hello.Findings, err = k.selfTest()
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
	var err error
	if k.own, err = takeGround(); err != nil {
		return err
	}
	k.l, err = loader.Load(loader.Options{Cgroup: k.own.dir})
	return err
}

func (k *keeper) selfTest() ([]Finding, error) {
	found, err := k.l.SelfTest(context.Background())
	if err != nil {
		return nil, err
	}
	var out []Finding
	for _, f := range found {
		text := ""
		if f.Err != nil {
			text = f.Err.Error()
		}
		out = append(out, Finding{Program: f.Program, Purpose: f.Purpose, Needed: f.Needed, State: f.State.String(), Err: text})
	}
	return out, loader.Lacking(found)
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

// startReading reads records on a thread that looks at the file system as the
// user: to resolve a name must not tell him more than he can find out.
func (k *keeper) startReading() {
	ctx, stop := context.WithCancel(context.Background())
	k.stop, k.read = stop, make(chan error, 1)
	go func() {
		runtime.LockOSThread() // for good
		if err := lookAs(k.uid, k.gid); err != nil {
			k.read <- err
			return
		}
		k.read <- k.l.Read(ctx, k)
	}()
}

// lookAs sets what this thread's file accesses are judged by. Leaving user 0, it
// has no power over files any more (capabilities(7), "Effect of user ID changes").
func lookAs(uid, gid int) error {
	if uid == 0 {
		return nil
	}
	group := uint32(gid)
	if _, _, errno := unix.RawSyscall(unix.SYS_SETGROUPS, 1, uintptr(unsafe.Pointer(&group)), 0); errno != 0 {
		return fmt.Errorf("set groups: %w", errno)
	}
	// They answer with the id before, whatever happens: asked twice they tell.
	_, _ = unix.SetfsgidRetGid(gid)
	_, _ = unix.SetfsuidRetUid(uid)
	if g, _ := unix.SetfsgidRetGid(gid); g != gid {
		return errors.New("set group for files: refused")
	}
	if u, _ := unix.SetfsuidRetUid(uid); u != uid {
		return errors.New("set user for files: refused")
	}
	return nil
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
	if err := k.owns(r.PID); err != nil {
		return err
	}
	rules := loader.Rules{TCP: true, UDP: true, Ping: true, MPTCP: true}
	if r.Rules != nil {
		rules.AnyUnix, rules.NoRefused = r.Rules.AnyUnix, r.Rules.Supervised
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
	return box.Place(r.PID, int(pidfd.Fd()))
}

// owns refuses processes that are not the user's: whoever holds this socket has
// no power over others. The number is the process's as long as its descriptor
// says so, which Place makes sure of afterwards.
func (k *keeper) owns(pid int) error {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return fmt.Errorf("place process %d: %w", pid, cgroup.ErrGone)
	}
	for line := range strings.Lines(string(status)) {
		ids := strings.Fields(line)
		if len(ids) > 1 && ids[0] == "Uid:" && ids[1] == strconv.Itoa(k.uid) {
			return nil
		}
	}
	return fmt.Errorf("place process %d: it is another user's", pid)
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
	if err := k.l.Start(k.box.Info.ID, root); err != nil {
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
