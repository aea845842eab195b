package sandbox

import (
	"errors"
	"fmt"
	"os"
	"path"
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
	g := s.newMasks()
	s.entered = g
	if err := g.enter(pid); err != nil {
		return err
	}
	if s.mounter != nil {
		err = s.mounter.run(g.user, g.mount, startTimeout+time.Duration(len(s.late))*mountTime)
	} else {
		err = g.coverRest(s.late, pid)
	}
	s.mounter = nil
	if err != nil {
		return fail("try again: a file may have been replaced meanwhile", "put up masks: %w", err)
	}
	return nil
}

// prepareRest makes the program for it, while bubblewrap makes its mounts.
func (s *Sandbox) prepareRest() {
	if len(s.late) > 0 && canSetAttributes() {
		s.mounter = newLateMounter(s.late)
	}
}

// canSetAttributes reports whether there is mount_setattr(2), as since Linux
// 5.12.
func canSetAttributes() bool {
	return !errors.Is(unix.MountSetattr(-1, "", unix.AT_EMPTY_PATH, &unix.MountAttr{}), unix.ENOSYS)
}

// coverRest makes them one by one. The kernel goes through all mounts on a
// directory's file system to bind something from there, so that this takes the
// square of their number.
func (g *masks) coverRest(late []plan.Late, init int) error {
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
	below := mountsOf(init)
	var mounts []rawMount
	for _, m := range bare {
		mounts = append(mounts, coverMounts(m.Mount, m.found.Mode&unix.S_IFMT == unix.S_IFDIR, m.keep)...)
		for _, s := range below { // each has flags of its own
			if m.Access == plan.ReadOnly && strings.HasPrefix(s.path, m.Path+"/") {
				mounts = append(mounts, newMount("", s.path, "", "", unix.MS_REMOUNT|unix.MS_BIND|coverFlags|s.keep))
			}
		}
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

// manySiblings is from how many mounts in one directory on it is entered: a name
// of one component is found in a fraction of the time.
const manySiblings = 8

// lateMounter makes the program that makes late mounts. Each is one call, which
// binds what has its flags already: a mount that was made from another has them,
// too. What is bound comes from copies that have nothing mounted on them.
type lateMounter struct {
	*program
	user   result // the sandbox's namespaces, as descriptors
	mount  result
	copies [2]result // descriptors
	hidden [2]string // a file, a directory that are hidden; empty: none yet
	within string    // the working directory, with a slash; empty: it does not matter
}

func newLateMounter(late []plan.Late) *lateMounter {
	m := &lateMounter{program: newProgram()}
	m.calls, m.names = make([]call, 0, len(late)+32), make([]string, 0, len(late)+32)
	m.user, m.mount, m.copies = m.reserve(1), m.reserve(1), [2]result{m.reserve(1), m.reserve(1)}
	m.add("join the sandbox's user namespace", unix.SYS_SETNS, m.user, unix.CLONE_NEWUSER)
	m.add("join the sandbox's mount namespace", unix.SYS_SETNS, m.mount, unix.CLONE_NEWNS)
	for _, list := range byBase(late) {
		m.below(list[0].Base, list)
	}
	m.add("end", unix.SYS_EXIT_GROUP, 0)
	return m
}

// byBase takes mounts apart by what they are below; most are below one, and are
// not copied.
func byBase(late []plan.Late) (lists [][]plan.Late) {
	at := map[string]int{}
	for i, end := 0, 0; i < len(late); i = end {
		base := late[i].Base
		for end = i + 1; end < len(late) && late[end].Base == base; {
			end++
		}
		if n, ok := at[base]; ok {
			lists[n] = append(lists[n], late[i:end]...)
			continue
		}
		at[base] = len(lists)
		lists = append(lists, late[i:end:end])
	}
	return lists
}

// run makes the mounts in the sandbox that these namespaces are of.
func (m *lateMounter) run(user, mount int, limit time.Duration) error {
	m.results[m.user], m.results[m.mount] = uint32(user), uint32(mount)
	return m.runAlone(limit)
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
	top := strings.TrimSuffix(base, "/")
	for len(list) > 0 {
		n := siblings(list)
		if dir := path.Dir(list[0].Path); n >= manySiblings && dir != "/" {
			m.add(dir, unix.SYS_CHDIR, dir)
			m.within = dir + "/"
		}
		for _, l := range list[:n] {
			m.one(top, l)
		}
		m.within, list = "", list[n:]
	}
	for _, name := range at {
		m.add(base, unix.SYS_UMOUNT2, name, unix.MNT_DETACH)
	}
}

// siblings counts how many mounts at the head of a list are of one directory.
func siblings(list []plan.Late) int {
	within := path.Dir(list[0].Path) + "/"
	n := 1
	for n < len(list) {
		if name, ok := strings.CutPrefix(list[n].Path, within); !ok || strings.Contains(name, "/") {
			break
		}
		n++
	}
	return n
}

// one makes a mount.
func (m *lateMounter) one(base string, l plan.Late) {
	if l.Access == plan.Hidden {
		m.hide(l)
	} else {
		m.bind(l, copyFor[l.Access]+strings.TrimPrefix(l.Path, base), m.short(l.Path))
	}
}

// copyFor says of which copy mounts are made; those to be written are pins.
var copyFor = map[plan.Access]string{plan.ReadOnly: readOnlyCopy, plan.ReadWrite: plainCopy}

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

func (m *lateMounter) bind(l plan.Late, source, target string) {
	flags := unix.MS_BIND
	if l.Dir {
		flags |= unix.MS_REC
	}
	m.append(l.Path, call{nr: unix.SYS_MOUNT, args: [6]uintptr{m.cstring(source), m.cstring(target), 0, uintptr(flags)}})
}

// hide covers a path with what it has covered another with: the last, which is
// next to it as a rule.
func (m *lateMounter) hide(l plan.Late) {
	kind := 0
	if l.Dir {
		kind = 1
	}
	name := m.short(l.Path)
	switch {
	case m.hidden[kind] != "":
		m.bind(l, m.short(m.hidden[kind]), name)
	case l.Dir:
		m.add(l.Path, unix.SYS_MOUNT, "tmpfs", name, "tmpfs", hideFlags, "mode=0000")
	default:
		m.bind(l, "/dev/null", name)
		m.setAttributes(atCWD, name, 0, hideAttributes)
	}
	m.hidden[kind] = l.Path
}

// short names what is below the working directory from there.
func (m *lateMounter) short(name string) string {
	if m.within == "" {
		return name
	}
	return strings.TrimPrefix(name, m.within)
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
