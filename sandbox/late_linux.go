package sandbox

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/internal/plan"
)

// mountTime is far above what one mount takes, on a busy machine too.
const mountTime = 10 * time.Millisecond

// mountRest makes the mounts that are too many for bubblewrap, with everything
// inside still waiting: a copy of this process joins the sandbox as it does when
// the host replaces a masked file.
func (s *Sandbox) mountRest() error {
	if len(s.late) == 0 {
		return nil
	}
	pid, root, err := s.Root()
	if err != nil {
		return err
	}
	root.Close()
	g := &masks{box: s, gone: map[string]bool{}, root: -1, mount: -1, user: -1}
	defer g.closeFDs()
	if err := g.enter(pid); err != nil {
		return err
	}
	if canSetAttributes() {
		err = lateProgram(s.late, g.user, g.mount).runAlone(startTimeout + time.Duration(len(s.late))*mountTime)
	} else {
		err = g.coverRest(s.late)
	}
	if err != nil {
		return fail("try again: a file may have been replaced meanwhile", "put up masks: %w", err)
	}
	return nil
}

// canSetAttributes reports whether there is mount_setattr(2), as since Linux
// 5.12.
func canSetAttributes() bool {
	return !errors.Is(unix.MountSetattr(-1, "", unix.AT_EMPTY_PATH, &unix.MountAttr{}), unix.ENOSYS)
}

// coverRest makes them one by one. The kernel goes through all mounts on a
// directory's file system to bind something from there, so that this takes the
// square of their number.
func (g *masks) coverRest(late []plan.Late) error {
	for _, l := range late {
		g.list = append(g.list, l.Mount)
	}
	bare, missing, err := g.look()
	if err != nil {
		return err
	}
	if len(missing) > 0 {
		return fmt.Errorf("%s: %w", missing[0].Path, os.ErrNotExist)
	}
	var mounts []rawMount
	for _, m := range bare {
		mounts = append(mounts, coverMounts(m.Mount, m.found.Mode&unix.S_IFMT == unix.S_IFDIR, m.keep)...)
	}
	return cover(g.user, g.mount, mounts)
}

// Where copies of a file system stand while mounts are taken from them. Both are
// there in every sandbox, and nobody looks yet.
const (
	readOnlyCopy = "/run"
	plainCopy    = "/tmp"
)

const (
	coverAttributes = unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV
	hideAttributes  = coverAttributes | unix.MOUNT_ATTR_NOEXEC
)

// lateMounter makes the program that makes late mounts. Each is one call, which
// binds what has its flags already: a mount that was made from another has them,
// too. What is bound comes from copies that have nothing mounted on them.
type lateMounter struct {
	*program
	copies [2]result // descriptors
	hidden [2]string // a file, a directory that are hidden; empty: none yet
}

func lateProgram(late []plan.Late, user, mount int) *program {
	m := &lateMounter{program: newProgram()}
	m.calls, m.names = make([]call, 0, len(late)+16), make([]string, 0, len(late)+16)
	m.copies = [2]result{m.reserve(1), m.reserve(1)}
	m.add("join the sandbox's user namespace", unix.SYS_SETNS, user, unix.CLONE_NEWUSER)
	m.add("join the sandbox's mount namespace", unix.SYS_SETNS, mount, unix.CLONE_NEWNS)
	byBase := map[string][]plan.Late{}
	var bases []string
	for _, l := range late {
		if byBase[l.Base] == nil {
			bases = append(bases, l.Base)
		}
		byBase[l.Base] = append(byBase[l.Base], l)
	}
	for _, base := range bases {
		m.below(base, byBase[base])
	}
	m.add("end", unix.SYS_EXIT_GROUP, 0)
	return m.program
}

// below makes the mounts below one of bubblewrap's.
func (m *lateMounter) below(base string, list []plan.Late) {
	wants := func(a plan.Access) bool {
		return slices.ContainsFunc(list, func(l plan.Late) bool { return l.Access == a })
	}
	var at []string
	if wants(plan.ReadOnly) {
		m.copyTree(base, len(at))
		m.setAttributes(m.copies[len(at)], "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, coverAttributes)
		at = append(at, readOnlyCopy)
	}
	if wants(plan.ReadWrite) {
		m.copyTree(base, len(at))
		at = append(at, plainCopy)
	}
	for i, name := range at {
		m.add(base, unix.SYS_MOVE_MOUNT, m.copies[i], "", atCWD, name, unix.MOVE_MOUNT_F_EMPTY_PATH)
		m.add(base, unix.SYS_CLOSE, m.copies[i])
	}
	for _, l := range list {
		rest := strings.TrimPrefix(l.Path, strings.TrimSuffix(base, "/"))
		switch l.Access {
		case plan.ReadOnly:
			m.bind(readOnlyCopy+rest, l.Path)
		case plan.ReadWrite: // a pin
			m.bind(plainCopy+rest, l.Path)
		default:
			m.hide(l.Path, l.Dir)
		}
	}
	for _, name := range at {
		m.add(base, unix.SYS_UMOUNT2, name, unix.MNT_DETACH)
	}
}

// copyTree takes a copy of what is mounted at and below a path.
func (m *lateMounter) copyTree(name string, to int) {
	m.add(name, unix.SYS_OPEN_TREE, atCWD, name, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE)
	m.saveAs(m.copies[to])
}

func (m *lateMounter) setAttributes(dir any, name string, flags int, set uint64) {
	attr := &unix.MountAttr{Attr_set: set}
	m.keep = append(m.keep, attr)
	m.add(name, unix.SYS_MOUNT_SETATTR, dir, name, flags, uintptr(unsafe.Pointer(attr)), int(unsafe.Sizeof(*attr)))
}

func (m *lateMounter) bind(source, target string) {
	m.add(target, unix.SYS_MOUNT, source, target, 0, unix.MS_BIND|unix.MS_REC, 0)
}

// hide covers a path with what it has covered another with.
func (m *lateMounter) hide(name string, dir bool) {
	kind := 0
	if dir {
		kind = 1
	}
	switch {
	case m.hidden[kind] != "":
		m.bind(m.hidden[kind], name)
		return
	case dir:
		m.add(name, unix.SYS_MOUNT, "tmpfs", name, "tmpfs", hideFlags, "mode=0000")
	default:
		m.bind("/dev/null", name)
		m.setAttributes(atCWD, name, 0, hideAttributes)
	}
	m.hidden[kind] = name
}

// runAlone runs a program in a copy of this process, to its end.
func (p *program) runAlone(limit time.Duration) error {
	ours, theirs, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("make pipe: %w", err)
	}
	defer ours.Close()
	p.control = theirs.Fd()
	runtime.LockOSThread()
	pid, err := p.fork()
	runtime.UnlockOSThread()
	theirs.Close()
	if err != nil {
		return fmt.Errorf("fork: %w", err)
	}
	c := &child{pid: pid}
	watchdog := time.AfterFunc(limit, c.kill)
	defer watchdog.Stop()
	buf := make([]byte, 8)
	n, _ := ours.Read(buf) // the end: it has nothing to say
	err = c.wait()
	switch {
	case n == len(buf):
		return p.explain([2]uint32(unsafe.Slice((*uint32)(unsafe.Pointer(&buf[0])), 2)))
	case err != nil:
		return fmt.Errorf("enter the sandbox: the child that does it: %w", err)
	}
	return nil
}
