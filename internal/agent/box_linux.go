package agent

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/internal/cgroup"
	"github.com/sallyport/sallyport/internal/event"
	"github.com/sallyport/sallyport/internal/plan"
	"github.com/sallyport/sallyport/internal/policy"
	"github.com/sallyport/sallyport/internal/process"
	"github.com/sallyport/sallyport/loader"
)

// box is a sandbox.
type box struct {
	journal
	rules loader.Rules
	group *cgroup.Group
	begun time.Time
	own   map[int]bool // processes of ours in it: stage 1, stage 2; fixed before it starts

	sifting sync.Mutex // of what follows
	sifter  Sifter
	held    uint64 // by the sifter

	sandbox atomic.Pointer[event.Sandbox] // as in its events; replaced when the policy is
	limits  cgroup.Limits

	lostAt uint64           // what had been lost on the machine before
	stage1 *process.Process // what was placed

	// Under Server.mu.
	conn     *conn // nil: the one that registered it is gone, or not back yet
	ending   bool
	reported uint64 // number of the last report in the log
	open     int64  // connections of its proxy
	watcher  func() // ends watching the caller; nil: it is not watched
}

func validID(id string) bool {
	return len(id) == 12 && strings.Trim(id, "0123456789abcdef") == ""
}

// newBox parses what was registered. It performs nothing.
func (s *Server) newBox(j journal) (*box, error) {
	p, err := j.policy()
	if err != nil {
		return nil, err
	}
	b := &box{journal: j, begun: time.Now(), sifter: s.opts.Sift(), own: map[int]bool{}, lostAt: s.lost.Load(), rules: rules(p), limits: limits(p)}
	if s.tier >= event.TierLSM {
		// Where links lead the user's process knows: its Absent are there.
		env := j.Registration.Env
		files := plan.KernelFiles(plan.WithoutGit(p.Files()), nil, env.Home, env.RuntimeDir)
		files.KeepAbsent(j.Registration.Absent)
		b.rules.Files = plan.CompileFiles(files)
	}
	sha := p.SHA256()
	if j.PolicySHA256 != "" {
		sha = j.PolicySHA256
	}
	b.sandbox.Store(&event.Sandbox{ID: j.ID, Name: event.Text(j.Registration.Name), PolicySHA256: sha, Tier: s.tier})
	for _, pid := range j.Own {
		b.own[pid] = true
	}
	if j.Registration.Canary {
		b.rules.Canary = loader.CanaryPath(j.ID)
	}
	return b, nil
}

// register makes a sandbox of a child of the caller.
func (s *Server) register(k *conn, r *Registration) (_ *registered, err error) {
	if k.box.Load() != nil {
		return nil, refuse("", "this connection has a sandbox")
	}
	target, err := process.Open(r.PID)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			target.Close()
		}
	}()
	if err := s.check.Registrable(target, k.peer, k.uid); err != nil {
		return nil, refuse("", err.Error())
	}
	if r.size() > policyBytes {
		return nil, refuse("", fmt.Sprintf("the policy has more than %d bytes", policyBytes))
	}
	for _, a := range r.Absent {
		if !filepath.IsAbs(a.Path) || filepath.Clean(a.Path) != a.Path {
			return nil, refuse("", fmt.Sprintf("%q is no path from the root", a.Path))
		}
	}
	if !validID(r.ID) {
		return nil, refuse("", "the sandbox's id is not 12 hexadecimal digits")
	}
	if len(r.Name) > 256 {
		return nil, refuse("", "the name is longer than 256 bytes")
	}
	b, err := s.newBox(journal{ID: r.ID, Boot: s.place.boot, Own: []int{r.PID}, UID: k.uid, GID: k.gid, CallerPID: k.peer.PID, CallerStart: k.peer.Start, Registration: *r, Ceiling: *s.ceiling.Load()})
	if err != nil {
		return nil, err
	}
	if err := s.logs.prepare(k.uid); err != nil {
		return nil, err
	}
	if r := s.quotas.enter(k.uid, false); r != nil {
		return nil, r
	}
	if err := s.putUp(b, target); err != nil {
		s.quotas.leave(k.uid)
		return nil, err
	}
	s.mu.Lock()
	b.conn = k
	s.mu.Unlock()
	k.box.Store(b)
	return b.registered(), nil
}

func (b *box) registered() *registered {
	as := b.sandbox.Load()
	return &registered{ID: b.ID, PolicySHA256: as.PolicySHA256, Tier: as.Tier}
}

// putUp makes the cgroup a sandbox and puts the process into it, journal first.
func (s *Server) putUp(b *box, target *process.Process) (err error) {
	if b.group, err = cgroup.Make(s.place.cgroup, b.ID); err != nil {
		return err
	}
	b.Cgroup = b.group.Info.ID
	s.mu.Lock()
	s.boxes[b.ID], s.groups[b.Cgroup] = b, b
	s.mu.Unlock()
	defer func() {
		if err != nil {
			err = errors.Join(err, s.takeDown(b))
		}
	}()
	if err := s.place.write(&b.journal); err != nil {
		return err
	}
	if err := s.load.AddSandbox(b.Cgroup, b.rules); err != nil {
		return err
	}
	if err := b.group.Limit(b.limits); err != nil {
		return refuse("cgroup v2 on this machine has to have the controllers: leave limits out of the policy, or see docs/policy.md", err.Error())
	}
	if err := b.group.Place(target.PID, target.FD); err != nil {
		// Whoever has that number now is not meant.
		return errors.Join(err, process.Evacuate(b.group))
	}
	s.mu.Lock()
	b.stage1 = target // not before: one that is not there yet has not strayed
	s.mu.Unlock()
	return nil
}

// takeDown kills what is left and removes every trace but the record.
func (s *Server) takeDown(b *box) error {
	errs := []error{b.group.Kill(killLimit)}
	if s.known(b.Cgroup) {
		errs = append(errs, s.load.RemoveSandbox(b.Cgroup))
	}
	s.release(b, b.sifter.Flush)
	errs = append(errs, b.group.Remove(), ignoreMissing(os.Remove(s.place.journal(b.ID))))
	s.mu.Lock()
	delete(s.boxes, b.ID)
	delete(s.groups, b.Cgroup)
	s.mu.Unlock()
	s.policies.forget(b.ID)
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("end sandbox %s: %w", b.ID, err)
	}
	return nil
}

func ignoreMissing(err error) error {
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

func (s *Server) known(group uint64) bool {
	for _, id := range s.load.Sandboxes() {
		if id == group {
			return true
		}
	}
	return false
}

// start begins to record what the payload is refused.
func (s *Server) start(b *box) error {
	if b.Started {
		return nil
	}
	inner, err := onlyChild(b.Own[0])
	if err != nil {
		return err
	}
	// What was started before the sandbox was one is not in it.
	pids, err := b.group.Processes()
	if err != nil {
		return err
	}
	if !slices.Contains(pids, b.Own[0]) || inner != 0 && !slices.Contains(pids, inner) {
		return refuse("", "a process of the sandbox is not in its cgroup")
	}
	if inner != 0 {
		b.Own = append(b.Own, inner)
		b.own[inner] = true
	}
	if err := s.record(b); err != nil {
		return err
	}
	b.Started = true
	s.began(nil, time.Since(b.begun))
	return s.place.write(&b.journal)
}

// record has the kernel record what the sandbox is refused, with paths as its
// user finds them.
func (s *Server) record(b *box) error {
	return s.load.StartAs(b.Cgroup, b.root(), loader.Eyes{UID: b.UID, GID: b.GID})
}

// root opens the root folder of the sandbox; nil where it has no process 1 yet, or
// any more: then paths are taken as they were given.
func (b *box) root() *os.File {
	if len(b.Own) < 2 {
		return nil
	}
	pid := b.Own[1]
	fd, err := unix.Open(fmt.Sprintf("/proc/%d/root", pid), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	root := os.NewFile(uintptr(fd), "root")
	pids, err := b.group.Processes() // the number is that of one in the sandbox now: it was when it was opened
	if err != nil || !slices.Contains(pids, pid) {
		root.Close()
		return nil
	}
	return root
}

// onlyChild finds the one process below another, process 1 of the sandbox; 0:
// there is none. With more of them something runs already.
func onlyChild(pid int) (int, error) {
	below, err := process.Children(pid)
	if err != nil || len(below) == 0 {
		return 0, err
	}
	deeper, err := process.Children(below[0])
	if err != nil {
		return 0, err
	}
	if len(below)+len(deeper) > 1 {
		return 0, refuse("", "more than one process runs in the sandbox already")
	}
	return below[0], nil
}

// inside cuts a list of ancestors before our own processes.
func (b *box) inside(list []event.Process) []event.Process {
	for i, p := range list {
		if b.own[p.PID] {
			return list[:i]
		}
	}
	return list
}

// end ends a sandbox, once; what it did is recorded then.
func (s *Server) end(b *box) error {
	s.mu.Lock()
	first := !b.ending
	b.ending = true
	b.unwatch()
	s.mu.Unlock()
	if !first {
		return nil
	}
	if !b.Started {
		s.began(errNotStarted, 0)
	}
	err := s.takeDown(b)
	s.quotas.leave(b.UID)
	if b.stage1 != nil {
		b.stage1.Close()
	}
	return err
}

// adopt goes on with a sandbox of a predecessor.
func (s *Server) adopt(j *journal) error {
	b, err := s.newBox(*j)
	if err == nil {
		b.group, err = cgroup.Open(filepath.Join(s.place.cgroup, j.ID))
	}
	if err == nil && b.group.Info.ID != j.Cgroup {
		err = errors.New("its cgroup is another")
	}
	if err == nil && j.Registration.Canary && !j.Started {
		err = errors.New("it had not started, and what proves its record is not known") // by this process
	}
	if err == nil && !s.known(j.Cgroup) {
		err = errors.New("the kernel's programs do not know it")
	}
	if err == nil {
		b.reported, err = s.logs.reported(b.UID, b.ID)
	}
	if err == nil && j.Started {
		err = s.record(b)
	}
	if err != nil { // sweep ends what there is of it
		return errors.Join(err, ignoreMissing(os.Remove(s.place.journal(j.ID))))
	}
	_ = s.quotas.enter(b.UID, true)
	b.lostAt = 0
	// Its number can be another's by now, who is in no sandbox.
	if p, err := process.Open(j.Own[0]); err == nil && !process.Strayed(p, b.group.Dir) {
		b.stage1 = p
	} else if err == nil {
		p.Close()
	}
	s.boxes[b.ID], s.groups[b.Cgroup] = b, b
	return nil
}

// sweep ends what nobody is left for: sandboxes whose callers have ended, and
// what there is without a journal. It is called when the kernel's records are
// being read, so that theirs are not lost.
func (s *Server) sweep() error {
	s.mu.Lock()
	var list []*box
	for _, b := range s.boxes {
		list = append(list, b)
	}
	s.mu.Unlock()
	for _, b := range list {
		caller, err := process.Open(b.CallerPID)
		if err == nil && caller.Start != b.CallerStart {
			caller.Close()
			err = process.ErrEnded
		}
		if err == nil {
			s.watch(b, caller)
			continue
		}
		if err := s.end(b); err != nil {
			s.warn(err.Error())
		}
	}
	for _, id := range s.load.Sandboxes() {
		s.mu.Lock()
		ours := s.groups[id] != nil
		s.mu.Unlock()
		if ours {
			continue
		}
		if err := s.load.RemoveSandbox(id); err != nil {
			s.warn(err.Error())
		}
	}
	_, err := cgroup.Sweep(s.place.cgroup, func(name string, _ cgroup.Info) bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.boxes[name] != nil
	}, killLimit)
	return err
}

// watch ends an adopted sandbox when its caller has ended without coming back.
func (s *Server) watch(b *box, caller *process.Process) {
	wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		s.warn("watch a caller: " + err.Error())
		caller.Close()
		return
	}
	stop := sync.OnceFunc(func() { _, _ = unix.Write(wake, []byte{1, 0, 0, 0, 0, 0, 0, 0}) })
	s.mu.Lock()
	b.watcher = stop
	s.mu.Unlock()
	s.wait.Go(func() {
		ended := waitEither(caller.FD, wake)
		caller.Close()
		s.mu.Lock()
		b.watcher = nil // nobody writes to it any more
		unix.Close(wake)
		s.mu.Unlock()
		if !ended {
			return
		}
		if err := s.end(b); err != nil {
			s.warn(err.Error())
		}
	})
}

// unwatch is called under Server.mu.
func (b *box) unwatch() {
	if b.watcher != nil {
		b.watcher()
	}
}

// waitEither reports whether the process ended, not that it was woken.
func waitEither(pidfd, wake int) bool {
	fds := []unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}, {Fd: int32(wake), Events: unix.POLLIN}}
	for {
		if _, err := unix.Poll(fds, -1); err != unix.EINTR {
			return err == nil && fds[1].Revents == 0
		}
	}
}

// attach gives a sandbox back to the process that registered it.
func (s *Server) attach(k *conn, id string) (*box, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.boxes[id]
	switch {
	case k.box.Load() != nil:
		return nil, refuse("", "this connection has a sandbox")
	case b == nil || b.ending || b.UID != k.uid || b.CallerPID != k.peer.PID || b.CallerStart != k.peer.Start:
		return nil, refuse("", "the caller has no such sandbox") // the same for another's and for none
	case b.conn != nil:
		return nil, refuse("", "the sandbox has its connection")
	}
	b.conn = k
	b.unwatch()
	k.box.Store(b)
	return b, nil
}

// limits are what the sandbox may use.
func limits(p *policy.Policy) cgroup.Limits {
	l := p.Limits()
	return cgroup.Limits{Memory: l.Memory, PIDs: l.Tasks(), CPU: l.CPU}
}

// rules are what the kernel decides by itself.
func rules(p *policy.Policy) loader.Rules {
	// What seccomp refuses the supervisor records. Unix sockets are reached through
	// it, too: what it may not is decided there.
	return loader.Rules{TCP: true, UDP: true, Ping: true, MPTCP: true, NoRefused: true, AnyUnix: p.Unix().All}
}
