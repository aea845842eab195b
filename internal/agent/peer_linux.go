package agent

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// process is a process that somebody has hold of: while pidfd is not readable,
// pid is its number and nobody else's.
type process struct {
	pid   int
	start uint64 // clock ticks since boot (proc(5), stat, field 22)
	pidfd int
}

// openProcess takes hold of whatever process has the number now.
func openProcess(pid int) (*process, error) {
	fd, err := unix.PidfdOpen(pid, 0) // close-on-exec by itself
	if err != nil {
		return nil, fmt.Errorf("open process %d: %w", pid, err)
	}
	return holdProcess(pid, fd)
}

func holdProcess(pid, fd int) (*process, error) {
	p := &process{pid: pid, pidfd: fd}
	start, err := startTime(pid)
	if err == nil {
		err = p.alive()
	}
	if err != nil {
		p.close()
		return nil, err
	}
	p.start = start
	return p, nil
}

func (p *process) close() { unix.Close(p.pidfd) }

var errEnded = errors.New("the process has ended")

// alive: the descriptor of a process is readable once it has ended
// (pidfd_open(2)). What was read of /proc before is this process's.
func (p *process) alive() error {
	fds := []unix.PollFd{{Fd: int32(p.pidfd), Events: unix.POLLIN}}
	for {
		n, err := unix.Poll(fds, 0)
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return fmt.Errorf("look at process %d: %w", p.pid, err)
		case n > 0:
			return errEnded
		}
		return nil
	}
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

// namespaces are those of this process, which must be the host's.
type namespaces struct{ user, pid nsID }

type nsID struct{ dev, ino uint64 }

func namespaceOf(pid, name string) (nsID, error) {
	var st unix.Stat_t
	if err := unix.Stat("/proc/"+pid+"/ns/"+name, &st); err != nil {
		return nsID{}, fmt.Errorf("look at the %s namespace of process %s: %w", name, pid, err)
	}
	return nsID{st.Dev, st.Ino}, nil
}

// Inode numbers of the first namespaces (linux/proc_ns.h, PROC_*_INIT_INO).
const (
	firstUser = 0xEFFFFFFD
	firstPID  = 0xEFFFFFFC
)

// ownNamespaces fails outside the host's: pids and users would mean something
// else there.
func ownNamespaces() (n namespaces, err error) {
	if n.user, err = namespaceOf("self", "user"); err != nil {
		return n, err
	}
	if n.pid, err = namespaceOf("self", "pid"); err != nil {
		return n, err
	}
	if n.user.ino != firstUser || n.pid.ino != firstPID {
		return n, errors.New("the agent must run in the host's own user and pid namespaces, not in a container")
	}
	return n, nil
}

// checker decides who may ask, and for which process.
type checker struct {
	own    namespaces
	parent string // path of the sandboxes' cgroup in the hierarchy, "/sallyport"
}

// outside fails unless a process is in the host's user and pid namespaces and in
// no sandbox's cgroup.
func (c *checker) outside(p *process) error {
	pid := strconv.Itoa(p.pid)
	user, err := namespaceOf(pid, "user")
	if err != nil {
		return err
	}
	number, err := namespaceOf(pid, "pid")
	if err != nil {
		return err
	}
	if user != c.own.user || number != c.own.pid {
		return errors.New("the caller is in a container or a sandbox: its user and pid namespaces are not the host's")
	}
	if err := c.unplaced(p); err != nil {
		return err
	}
	return p.alive()
}

// unplaced fails for a process in a sandbox's cgroup.
func (c *checker) unplaced(p *process) error {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", p.pid))
	if err != nil {
		return err
	}
	path, err := cgroupPath(string(b))
	if err != nil {
		return err
	}
	if path == c.parent || strings.HasPrefix(path, c.parent+"/") {
		return fmt.Errorf("process %d is in a sandbox", p.pid)
	}
	return nil
}

// cgroupPath finds the path of version 2 (cgroups(7)). One that begins with
// "/.." is outside this process's cgroup namespace; " (deleted)" may follow.
func cgroupPath(text string) (string, error) {
	for line := range strings.Lines(text) {
		if p, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "0::/"); ok {
			return "/" + p, nil
		}
	}
	return "", errors.New("the process is in no cgroup of version 2")
}

// registrable fails unless a process is a child of the caller, all its user ids
// are the caller's, and it is process 1 of a pid namespace, in a user namespace
// that the caller has made directly below the host's.
func (c *checker) registrable(target, caller *process, uid uint32) error {
	st, err := readStatus(target.pid)
	if err != nil {
		return err
	}
	switch {
	case st.ppid != caller.pid:
		return fmt.Errorf("process %d is not a child of the caller", target.pid)
	case st.uids != [4]uint32{uid, uid, uid, uid}:
		return fmt.Errorf("process %d is another user's", target.pid)
	case len(st.nspids) != 2 || st.nspids[1] != 1:
		return fmt.Errorf("process %d is not the first of a pid namespace", target.pid)
	}
	if err := c.ownUserNamespace(target, uid); err != nil {
		return err
	}
	if err := c.unplaced(target); err != nil {
		return err
	}
	children, err := childrenOf(target.pid)
	if err != nil {
		return err
	}
	if len(children) > 0 {
		return fmt.Errorf("process %d has children already", target.pid)
	}
	return target.alive()
}

// ownUserNamespace asks the kernel for a user namespace's parent and owner
// (ioctl_nsfs(2), Linux 4.9 and 4.11).
func (c *checker) ownUserNamespace(p *process, uid uint32) error {
	fd, err := unix.Open(fmt.Sprintf("/proc/%d/ns/user", p.pid), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open user namespace: %w", err)
	}
	defer unix.Close(fd)
	up, err := unix.IoctlRetInt(fd, unix.NS_GET_PARENT)
	if err != nil {
		return fmt.Errorf("process %d has no user namespace of its own: %w", p.pid, err)
	}
	defer unix.Close(up)
	var st unix.Stat_t
	if err := unix.Fstat(up, &st); err != nil {
		return fmt.Errorf("look at user namespace: %w", err)
	}
	if (nsID{st.Dev, st.Ino}) != c.own.user {
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

// childrenOf lists a process's children (proc_tid_children(5)).
func childrenOf(pid int) (pids []int, err error) {
	lists, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	if err != nil || len(lists) == 0 {
		return nil, errors.Join(err, errEnded)
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
