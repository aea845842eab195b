package sandbox

import (
	"errors"
	"fmt"
	"path"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/internal/event"
	"github.com/sallyport/sallyport/internal/plan"
	"github.com/sallyport/sallyport/sandbox/stage2"
)

// errEnded keeps anybody from looking into a sandbox that is no more.
var errEnded = errors.New("the sandbox has ended")

// MaskOptions are what the keeping of masks needs of the run.
type MaskOptions struct {
	// Stub makes a placeholder where the host has removed what was masked.
	Stub func(plan.Stub, plan.Mount) error
	// Warn says that not all directories can be watched.
	Warn func(message, hint string)
}

// A file may be missing for so long before it counts as removed: some programs
// save a file by moving it away and making a new one. The time starts anew as
// long as something happens where it was, up to a limit. Nothing inside runs
// meanwhile.
const (
	maskGrace = 100 * time.Millisecond
	graceMax  = 2 * time.Second
)

// A mask that cannot be put back, so often or for so long, ends the run.
const (
	coverTries = 20
	coverTime  = 10 * time.Second
)

// masks keeps the masks where they are. A mount is bound to the file that it
// covers; when the host puts another in its place the kernel detaches the mount
// (detach_mounts in fs/namespace.c, since Linux 3.19), and the new one is bare.
// It cannot be refused; it is seen, and covered again, while everything inside
// stands still.
type masks struct {
	box         *Sandbox
	opts        MaskOptions
	list        []plan.Mount // nil: not yet made; a short command needs none
	watch       *maskWatch
	root        int // the sandbox's root directory
	mount, user int // its mount namespace, and the user namespace that it is of
	gone        map[string]bool
	frozen      chan struct{} // stage 2 says so
	stopped     chan struct{} // closed: there is nothing to keep any more
	ended       chan struct{}
	err         error // a mask that could not be put back; set while settling
	stopping    sync.Once
	settling    sync.Mutex
}

// maskState is what is found at a mask's path.
type maskState struct {
	plan.Mount
	found unix.Stat_t // of what is bare
	keep  uintptr     // mount flags that cannot be taken away
}

// KeepMasks covers again what the host replaces, until the sandbox ends. It is
// called once, after Release.
func (s *Sandbox) KeepMasks(o MaskOptions) error {
	if !s.plan.Masked() {
		return nil
	}
	g := s.entered
	if g == nil {
		g = s.newMasks()
		if err := g.enter(s.calls.inside.init); err != nil || !s.calls.inside.lives() {
			g.leave()
			if !s.calls.inside.lives() {
				return nil // it was a short command
			}
			return fmt.Errorf("keep masks: %w", err)
		}
	}
	g.opts, g.list = o, nil
	s.masks.Store(g)
	s.entered = nil
	go g.run()
	return nil
}

func (s *Sandbox) newMasks() *masks {
	return &masks{box: s, gone: map[string]bool{}, root: -1, mount: -1, user: -1,
		frozen: make(chan struct{}, 1), stopped: make(chan struct{}), ended: make(chan struct{})}
}

// enter finds the sandbox by its process 1.
func (g *masks) enter(init int) (err error) {
	dir := fmt.Sprintf("/proc/%d/", init)
	if g.root, err = unix.Open(dir+"root", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err != nil {
		return fmt.Errorf("open the sandbox's root: %w", err)
	}
	if g.mount, err = unix.Open(dir+"ns/mnt", unix.O_RDONLY|unix.O_CLOEXEC, 0); err != nil {
		return fmt.Errorf("open the sandbox's mount namespace: %w", err)
	}
	if g.user, err = unix.IoctlRetInt(g.mount, unix.NS_GET_USERNS); err != nil {
		return fmt.Errorf("find the owner of the sandbox's mount namespace: %w", err)
	}
	return nil
}

// leave lets go of the sandbox. Where nobody else holds its mounts the kernel
// takes them down, which takes a microsecond for each, and nobody waits for.
func (g *masks) leave() {
	if g == nil {
		return
	}
	go func() {
		for _, fd := range []int{g.root, g.mount, g.user} {
			closeFD(fd)
		}
	}()
}

// watchAfter is how long nothing is watched: the end of a watch takes the kernel
// some 10 ms (fsnotify_destroy_group waits for all readers of its marks), more
// than the whole of a short command. What happens until then is found then.
const watchAfter = 20 * time.Millisecond

func (g *masks) run() {
	defer close(g.ended)
	select {
	case <-g.stopped:
		return
	case <-time.After(watchAfter):
	}
	g.settling.Lock()
	g.watch = watchMasks(g.all())
	g.settling.Unlock()
	if g.watch.blind != nil && g.opts.Warn != nil {
		g.opts.Warn(fmt.Sprintf("masked files that the host replaces are found up to %s later: %v", blindLook, g.watch.blind),
			"raise fs.inotify.max_user_watches and max_user_instances")
	}
	go func() {
		<-g.stopped
		g.watch.close()
	}()
	for {
		if !g.settled() {
			return
		}
		if !g.watch.wait() {
			return
		}
	}
}

// settled reports whether everything is covered; else it has ended the sandbox.
func (g *masks) settled() bool {
	g.settling.Lock()
	defer g.settling.Unlock()
	if g.err != nil {
		return false
	}
	// No boundary, no command.
	if g.err = g.settle(time.Now()); g.err != nil {
		g.box.cmd.kill()
	}
	return g.err == nil
}

// standStill stops everything inside for as long as this process may be
// stopped, and nobody looks. What it gives back looks before anything goes on.
func (g *masks) standStill() (goOn func()) {
	if g == nil {
		return func() {}
	}
	g.settling.Lock()
	g.freeze()
	g.awaitFrozen()
	g.settling.Unlock()
	return func() {
		g.settled()
		g.thaw()
	}
}

// stop is for when the sandbox has ended. It gives the error for which it did.
func (g *masks) stop() error {
	if g == nil {
		return nil
	}
	g.stopping.Do(func() {
		close(g.stopped)
		<-g.ended
		g.settling.Lock()
		defer g.settling.Unlock()
		if g.err == nil {
			g.err = errEnded
		}
		g.leave()
	})
	if errors.Is(g.err, errEnded) {
		return nil
	}
	return g.err
}

// all gives the masks that there are to keep.
func (g *masks) all() []plan.Mount {
	if g.list == nil {
		g.list = g.box.plan.Masks()
	}
	return g.list
}

// look sorts the masks out that are not in their place.
func (g *masks) look() (bare, missing []maskState, err error) {
	for _, m := range g.all() {
		s, state, err := g.inspect(m)
		switch {
		case err != nil:
			return nil, nil, err
		case state == maskBare:
			bare = append(bare, s)
		case state == maskMissing:
			missing = append(missing, s)
		default:
			delete(g.gone, m.Path)
		}
	}
	return bare, missing, nil
}

const (
	maskHolds = iota
	maskBare
	maskMissing
)

// inspect looks at a mask's path in the sandbox: it holds if a mount begins
// there.
func (g *masks) inspect(m plan.Mount) (s maskState, state int, err error) {
	s.Mount = m
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC | unix.O_NOFOLLOW, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS | unix.RESOLVE_NO_SYMLINKS}
	var fd int
	for range 16 {
		if fd, err = unix.Openat2(g.root, m.Path, &how); !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EINTR) {
			break
		}
	}
	switch {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.ELOOP): // a link is another name
		return s, maskMissing, nil
	case errors.Is(err, unix.EACCES): // the payload has closed a directory to itself, and to the user
		return s, maskHolds, nil
	}
	if err != nil {
		return s, 0, fmt.Errorf("look at %s: %w", m.Path, err)
	}
	defer unix.Close(fd)
	var st unix.Statx_t
	if err := unix.Statx(fd, "", unix.AT_EMPTY_PATH, unix.STATX_BASIC_STATS, &st); err != nil {
		return s, 0, fmt.Errorf("look at %s: %w", m.Path, err)
	}
	if st.Attributes_mask&unix.STATX_ATTR_MOUNT_ROOT == 0 { // Linux 5.8
		return s, 0, errors.New("the kernel does not tell where mounts are")
	}
	if st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0 {
		return s, maskHolds, nil
	}
	var vfs unix.Statfs_t
	if err := errors.Join(unix.Fstat(fd, &s.found), unix.Fstatfs(fd, &vfs)); err != nil {
		return s, 0, fmt.Errorf("look at %s: %w", m.Path, err)
	}
	s.keep = uintptr(vfs.Flags) & (unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC)
	return s, maskBare, nil
}

// settle covers what is bare. An error means that something stays so.
func (g *masks) settle(since time.Time) error {
	bare, missing, err := g.look()
	if err != nil {
		return err
	}
	lost := g.newlyGone(missing)
	if len(bare)+len(lost) == 0 {
		g.watch.renew() // a directory that was made anew is watched now
		return nil
	}
	g.freeze()
	defer g.thaw()
	covered, err := g.coverAll(bare)
	took := time.Since(since)
	g.awaitFrozen()
	events := g.events(covered, took)
	if err == nil && len(lost) > 0 {
		var late []event.Event
		late, err = g.await(lost)
		events = append(events, late...)
	}
	if err == nil {
		g.watch.renew()
		// What was replaced between covering and watching.
		if bare, _, err = g.look(); err == nil {
			covered, err = g.coverAll(bare)
			events = append(events, g.events(covered, time.Since(since))...)
		}
	}
	for _, e := range events {
		g.box.emit(e)
	}
	return err
}

// newlyGone picks what the host has removed since the last look.
func (g *masks) newlyGone(missing []maskState) []maskState {
	var lost []maskState
	for _, m := range missing {
		if !g.gone[m.Path] {
			g.gone[m.Path] = true
			if g.box.plan.Makeable(m.Mount) {
				lost = append(lost, m)
			}
		}
	}
	return lost
}

// coverAll tries again for as long as the host goes on replacing, within reason.
func (g *masks) coverAll(bare []maskState) (covered []maskState, err error) {
	failed := 0
	for end := time.Now().Add(coverTime); len(bare) > 0; {
		var list []rawMount
		for _, m := range bare {
			list = append(list, coverMounts(m.Mount, m.found.Mode&unix.S_IFMT == unix.S_IFDIR, m.keep)...)
		}
		if err = cover(g.user, g.mount, list); err != nil {
			failed++ // replaced, or removed, meanwhile
		}
		covered = append(covered, bare...)
		var lookErr error
		if bare, _, lookErr = g.look(); lookErr != nil {
			return covered, lookErr
		}
		if len(bare) > 0 && (failed > coverTries || time.Now().After(end)) {
			if err == nil {
				err = errors.New("it does not stop doing so")
			}
			return covered, fmt.Errorf("cover %s again, which a program outside has replaced: %w", bare[0].Path, err)
		}
		g.forgetBelow(covered)
	}
	return covered, nil
}

// forgetBelow drops what was open below a hidden directory, and is hidden now.
func (g *masks) forgetBelow(covered []maskState) {
	for _, c := range covered {
		if c.Access != plan.Hidden && c.Access != plan.Private {
			continue
		}
		kept := g.list[:0:0]
		for _, m := range g.list {
			if !strings.HasPrefix(m.Path, c.Path+"/") {
				kept = append(kept, m)
			}
		}
		g.list = kept
	}
}

// await gives the host time to put something in the place of what is missing,
// and then puts a placeholder there.
func (g *masks) await(lost []maskState) ([]event.Event, error) {
	since, quiet := time.Now(), time.Now()
	var covered []maskState
	last := changes(lost)
	for len(lost) > 0 && time.Since(quiet) < maskGrace && time.Since(since) < graceMax {
		time.Sleep(time.Millisecond)
		if now := changes(lost); now != last {
			last, quiet = now, time.Now()
		}
		bare, missing, err := g.look()
		if err != nil {
			return nil, err
		}
		again, err := g.coverAll(bare)
		if err != nil {
			return nil, err
		}
		covered = append(covered, again...)
		lost = missingOf(lost, missing)
	}
	events := g.events(covered, time.Since(since))
	for _, m := range lost {
		detail := "removed on the host while the command ran: not covered any more"
		if stub, ok := plan.StubFor(m.Mount); ok && g.opts.Stub != nil && g.opts.Stub(stub, m.Mount) == nil {
			detail = "removed on the host while the command ran: a placeholder stands there now"
		}
		events = append(events, tamper(m, detail))
	}
	bare, _, err := g.look()
	if err == nil {
		_, err = g.coverAll(bare) // the placeholders
	}
	return events, err
}

// changes grows when a name is made or removed beside what is missing.
func changes(lost []maskState) (latest int64) {
	for _, m := range lost {
		var st unix.Stat_t
		if unix.Lstat(path.Dir(m.Path), &st) == nil {
			latest = max(latest, st.Mtim.Nano())
		}
	}
	return latest
}

func missingOf(lost, missing []maskState) []maskState {
	still := map[string]bool{}
	for _, m := range missing {
		still[m.Path] = true
	}
	var out []maskState
	for _, m := range lost {
		if still[m.Path] {
			out = append(out, m)
		}
	}
	return out
}

// events tells of masks that are back. Whoever inside has got hold of a bare
// file meanwhile is named, and ended.
func (g *masks) events(covered []maskState, took time.Duration) []event.Event {
	holders := g.holders(covered)
	var out []event.Event
	seen := map[string]bool{}
	for _, m := range covered {
		if seen[m.Path] || m.Pin && m.Access == plan.ReadWrite {
			continue
		}
		seen[m.Path] = true
		e := tamper(m, fmt.Sprintf("replaced on the host while the command ran: covered again %s after that was seen", took.Round(10*time.Microsecond)))
		for _, pid := range holders[m.Path] {
			if e.Process == nil {
				e.Process = readProcess(pid)
				e.Detail += "; this process had opened it meanwhile, and was killed"
			}
			_ = unix.Kill(pid, unix.SIGKILL) // ended meanwhile
		}
		out = append(out, e)
	}
	return out
}

func tamper(m maskState, detail string) event.Event {
	now := time.Now()
	return event.Event{Verdict: event.Audit, Layer: event.LayerSupervisor, Operation: event.FileRename,
		Object: event.Object{Path: event.Text(m.Path)}, Reason: event.Tampered, Rule: m.Rule.String(),
		Detail: event.Text(detail), Count: 1, First: now, Last: now, Time: now}
}

// freeze has stage 2 stop everything. It does not wait for that: covering is
// what counts.
func (g *masks) freeze() {
	select {
	case <-g.frozen: // of a time that was not waited for
	default:
	}
	_ = g.box.send(stage2.Command{Freeze: true}) // ended: nobody to stop
}

func (g *masks) awaitFrozen() {
	select {
	case <-g.frozen:
	case <-g.box.exited:
	case <-time.After(time.Second): // what cannot be stopped is in the kernel
	}
}

func (g *masks) thaw() { _ = g.box.send(stage2.Command{Thaw: true}) } // ended: nobody to continue

// isFrozen takes stage 2's word.
func (g *masks) isFrozen() {
	if g == nil {
		return
	}
	select {
	case g.frozen <- struct{}{}:
	default:
	}
}
