package process

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/sallyport/sallyport/internal/cgroup"
	"golang.org/x/sys/unix"
)

// Process is one that somebody has hold of: while FD is not readable, PID is its
// number and nobody else's.
type Process struct {
	PID   int
	Start uint64 // clock ticks since boot (proc(5), stat, field 22)
	FD    int    // see pidfd_open(2)
}

// Open takes hold of whatever process has the number now.
func Open(pid int) (*Process, error) {
	fd, err := unix.PidfdOpen(pid, 0) // close-on-exec by itself
	if err != nil {
		return nil, fmt.Errorf("open process %d: %w", pid, err)
	}
	return Hold(pid, fd)
}

// Hold takes a descriptor of a process over.
func Hold(pid, fd int) (*Process, error) {
	p := &Process{PID: pid, FD: fd}
	start, err := startTime(pid)
	if err == nil {
		err = p.Alive()
	}
	if err != nil {
		p.Close()
		return nil, err
	}
	p.Start = start
	return p, nil
}

// Close lets go of the process.
func (p *Process) Close() { unix.Close(p.FD) }

// ErrEnded: there is no such process any more.
var ErrEnded = errors.New("the process has ended")

// Alive fails once the process has ended. What was read of /proc before is this
// process's.
func (p *Process) Alive() error {
	err := cgroup.Alive(p.FD)
	if errors.Is(err, cgroup.ErrGone) {
		return ErrEnded
	}
	if err != nil {
		return fmt.Errorf("process %d: %w", p.PID, err)
	}
	return nil
}

func startTime(pid int) (uint64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	return parseStart(b)
}

// parseStart reads field 22; the second is in parentheses and can hold any
// bytes, parentheses too.
func parseStart(stat []byte) (uint64, error) {
	i := bytes.LastIndexByte(stat, ')')
	fields := strings.Fields(string(stat[i+1:]))
	if i < 0 || len(fields) < 20 {
		return 0, errors.New("read stat: not as proc(5) has it")
	}
	return strconv.ParseUint(fields[19], 10, 64)
}

// status is what is needed of /proc/PID/status.
type status struct {
	ppid   int
	uids   [4]uint32 // real, effective, saved, file system
	nspids []int     // its number in each pid namespace, this one's first
}

func readStatus(pid int) (status, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return status{}, err
	}
	return parseStatus(string(b))
}

func parseStatus(text string) (s status, err error) {
	seen := 0
	for line := range strings.Lines(text) {
		name, value, _ := strings.Cut(line, ":")
		fields := strings.Fields(value)
		switch {
		case name == "PPid" && len(fields) == 1:
			s.ppid, err = strconv.Atoi(fields[0])
		case name == "Uid" && len(fields) == 4:
			for i, f := range fields {
				n, e := strconv.ParseUint(f, 10, 32)
				s.uids[i], err = uint32(n), errors.Join(err, e)
			}
		case name == "NSpid":
			for _, f := range fields {
				n, e := strconv.Atoi(f)
				s.nspids, err = append(s.nspids, n), errors.Join(err, e)
			}
		default:
			continue
		}
		if err != nil {
			return s, fmt.Errorf("read status: %w", err)
		}
		seen++
	}
	if seen != 3 {
		return s, errors.New("read status: not as proc(5) has it")
	}
	return s, nil
}

// Namespaces are those of this process.
type Namespaces struct{ user, pid NamespaceID }

// NamespaceID tells namespaces apart.
type NamespaceID struct{ dev, ino uint64 }

// NamespaceOf finds a namespace of a process, "self" for this one.
func NamespaceOf(pid, name string) (NamespaceID, error) {
	var st unix.Stat_t
	if err := unix.Stat("/proc/"+pid+"/ns/"+name, &st); err != nil {
		return NamespaceID{}, fmt.Errorf("look at the %s namespace of process %s: %w", name, pid, err)
	}
	return NamespaceID{st.Dev, st.Ino}, nil
}

// Inode numbers of the first namespaces (linux/proc_ns.h, PROC_*_INIT_INO).
const (
	firstUser = 0xEFFFFFFD
	firstPID  = 0xEFFFFFFC
)

// HostNamespaces fails outside the host's: pids and users would mean something
// else there.
func HostNamespaces() (n Namespaces, err error) {
	if n.user, err = NamespaceOf("self", "user"); err != nil {
		return n, err
	}
	if n.pid, err = NamespaceOf("self", "pid"); err != nil {
		return n, err
	}
	if n.user.ino != firstUser || n.pid.ino != firstPID {
		return n, errors.New("the agent must run in the host's own user and pid namespaces, not in a container")
	}
	return n, nil
}

// Checker decides who may ask, and for which process.
type Checker struct {
	Own    Namespaces
	Parent string // path of the sandboxes' cgroup in the hierarchy, "/sallyport"
}

// Outside fails unless a process is in the host's user and pid namespaces and in
// no sandbox's cgroup.
func (c *Checker) Outside(p *Process) error {
	pid := strconv.Itoa(p.PID)
	user, err := NamespaceOf(pid, "user")
	if err != nil {
		return err
	}
	number, err := NamespaceOf(pid, "pid")
	if err != nil {
		return err
	}
	if user != c.Own.user || number != c.Own.pid {
		return errors.New("the caller is in a container or a sandbox: its user and pid namespaces are not the host's")
	}
	if err := c.unplaced(p); err != nil {
		return err
	}
	return p.Alive()
}

// unplaced fails for a process in a sandbox's cgroup.
func (c *Checker) unplaced(p *Process) error {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", p.PID))
	if err != nil {
		return err
	}
	path, err := CgroupPath(string(b))
	if err != nil {
		return err
	}
	if path == c.Parent || strings.HasPrefix(path, c.Parent+"/") {
		return fmt.Errorf("process %d is in a sandbox", p.PID)
	}
	return nil
}

// CgroupPath finds the path of version 2 (cgroups(7)). One that begins with
// "/.." is outside this process's cgroup namespace; " (deleted)" may follow.
func CgroupPath(text string) (string, error) {
	for line := range strings.Lines(text) {
		if p, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "0::/"); ok {
			return "/" + p, nil
		}
	}
	return "", errors.New("the process is in no cgroup of version 2")
}

// Registrable fails unless a process is Placeable, and process 1 of a pid
// namespace, in a user namespace that the caller has made directly below the
// host's.
func (c *Checker) Registrable(target, caller *Process, uid uint32) error {
	st, err := readStatus(target.PID)
	if err != nil {
		return err
	}
	if len(st.nspids) != 2 || st.nspids[1] != 1 {
		return fmt.Errorf("process %d is not the first of a pid namespace", target.PID)
	}
	if err := c.ownUserNamespace(target, uid); err != nil {
		return err
	}
	return c.Placeable(target, caller, uid)
}

// Placeable fails unless a process is a child of the caller, all its user ids are
// the caller's, it is in no sandbox, and alone.
func (c *Checker) Placeable(target, caller *Process, uid uint32) error {
	st, err := readStatus(target.PID)
	switch {
	case err != nil:
		return err
	case st.ppid != caller.PID:
		return fmt.Errorf("process %d is not a child of the caller", target.PID)
	case st.uids != [4]uint32{uid, uid, uid, uid}:
		return fmt.Errorf("process %d is another user's", target.PID)
	}
	if err := c.unplaced(target); err != nil {
		return err
	}
	children, err := Children(target.PID)
	if err != nil {
		return err
	}
	if len(children) > 0 {
		return fmt.Errorf("process %d has children already", target.PID)
	}
	return errors.Join(caller.Alive(), target.Alive())
}

// ownUserNamespace asks the kernel for a user namespace's parent and owner
// (ioctl_nsfs(2), Linux 4.9 and 4.11).
func (c *Checker) ownUserNamespace(p *Process, uid uint32) error {
	fd, err := unix.Open(fmt.Sprintf("/proc/%d/ns/user", p.PID), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open user namespace: %w", err)
	}
	defer unix.Close(fd)
	up, err := unix.IoctlRetInt(fd, unix.NS_GET_PARENT)
	if err != nil {
		return fmt.Errorf("process %d has no user namespace of its own: %w", p.PID, err)
	}
	defer unix.Close(up)
	var st unix.Stat_t
	if err := unix.Fstat(up, &st); err != nil {
		return fmt.Errorf("look at user namespace: %w", err)
	}
	if (NamespaceID{st.Dev, st.Ino}) != c.Own.user {
		return errors.New("the user namespace is not directly below the host's")
	}
	owner, err := unix.IoctlGetUint32(fd, unix.NS_GET_OWNER_UID)
	if err != nil {
		return fmt.Errorf("ask for the owner of a user namespace: %w", err)
	}
	if owner != uid {
		return fmt.Errorf("user %d has made the user namespace", owner)
	}
	return nil
}

// Children lists a process's children (proc_tid_children(5)).
func Children(pid int) (pids []int, err error) {
	lists, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	if err != nil || len(lists) == 0 {
		return nil, errors.Join(err, ErrEnded)
	}
	for _, l := range lists {
		b, err := os.ReadFile(l)
		if err != nil && !errors.Is(err, os.ErrNotExist) && !errors.Is(err, unix.ESRCH) { // the thread ended
			return nil, err
		}
		for _, f := range strings.Fields(string(b)) {
			n, err := strconv.Atoi(f)
			if err != nil {
				return nil, fmt.Errorf("read children: %w", err)
			}
			pids = append(pids, n)
		}
	}
	return pids, nil
}

// Parent is the number of a process's parent.
func Parent(pid int) (int, error) {
	st, err := readStatus(pid)
	return st.ppid, err
}

// Strayed reports whether a process that was put into a cgroup is alive and not in
// it any more: somebody moved it, or has removed the cgroup after moving it.
func Strayed(p *Process, dir string) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", p.PID))
	if err != nil {
		return false // it has ended
	}
	path, err := CgroupPath(string(b))
	return (err != nil || path == "/" || !strings.HasSuffix(dir, path)) && p.Alive() == nil
}

// Kill ends the process, whose number nobody else can have.
func (p *Process) Kill() error { return unix.PidfdSendSignal(p.FD, unix.SIGKILL, nil, 0) }
