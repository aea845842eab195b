package cgroup

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Mount finds where version 2 is mounted.
func Mount() (string, error) {
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return "", fmt.Errorf("find cgroup v2: %w", err)
	}
	dir, err := mountOf(string(b))
	if err != nil {
		return "", fmt.Errorf("find cgroup v2: %w", err)
	}
	return dir, nil
}

// Stat says which cgroup a folder is.
func Stat(dir string) (Info, error) {
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		return Info{}, fmt.Errorf("look at cgroup %s: %w", dir, err)
	}
	if fs.Type != unix.CGROUP2_SUPER_MAGIC {
		return Info{}, fmt.Errorf("look at cgroup %s: not a cgroup of version 2", dir)
	}
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		return Info{}, fmt.Errorf("look at cgroup %s: %w", dir, err)
	}
	mount, err := Mount()
	if err != nil {
		return Info{}, err
	}
	real, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return Info{}, fmt.Errorf("look at cgroup %s: %w", dir, err)
	}
	rel, err := filepath.Rel(mount, real)
	if err != nil || rel == ".." || strings.HasPrefix(rel, "../") {
		return Info{}, fmt.Errorf("look at cgroup %s: not below %s", dir, mount)
	}
	info := Info{ID: st.Ino}
	if rel != "." {
		info.Depth = strings.Count(rel, "/") + 1
	}
	return info, nil
}

// Parent makes the parent of all sandboxes, a folder below the root of the
// hierarchy, and returns its path.
func Parent(name string) (string, error) {
	for _, part := range strings.Split(name, "/") {
		if !validName(part) {
			return "", fmt.Errorf("make cgroup %q: not a name", name)
		}
	}
	mount, err := Mount()
	if err != nil {
		return "", err
	}
	own, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return "", fmt.Errorf("find own cgroup: %w", err)
	}
	path, err := ownPath(string(own))
	if err != nil {
		return "", fmt.Errorf("find own cgroup: %w", err)
	}
	if path != "/" && strings.HasPrefix("/"+name+"/", path+"/") {
		return "", fmt.Errorf("make cgroup %s: %w", name, ErrOwn)
	}
	dir := mount
	for _, part := range strings.Split(name, "/") {
		dir = filepath.Join(dir, part)
		if err := mkdir(dir); err != nil && !errors.Is(err, os.ErrExist) {
			return "", fmt.Errorf("make cgroup: %w", err)
		}
	}
	return dir, nil
}

// mkdir makes a folder that is everybody's to enter, as all others there are:
// the owner of a sandbox reads what its limits have stopped. A service's umask
// may say otherwise.
func mkdir(dir string) error {
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	return os.Chmod(dir, 0o755)
}

// Group is the cgroup of one sandbox.
type Group struct {
	Dir  string
	Info Info
}

// Make makes a sandbox's cgroup. It must not exist: another's processes would
// be taken for ours.
func Make(parent, name string) (*Group, error) {
	if !validName(name) {
		return nil, fmt.Errorf("make cgroup %q: not a name", name)
	}
	dir := filepath.Join(parent, name)
	if err := mkdir(dir); err != nil {
		return nil, fmt.Errorf("make cgroup: %w", err)
	}
	g, err := Open(dir)
	if err != nil {
		os.Remove(dir)
		return nil, err
	}
	return g, nil
}

// Open takes over a cgroup that exists.
func Open(dir string) (*Group, error) {
	info, err := Stat(dir)
	if err != nil {
		return nil, err
	}
	return &Group{dir, info}, nil
}

func (g *Group) file(name string) string { return filepath.Join(g.Dir, name) }

// write writes to one of the kernel's files, which are never created.
func (g *Group) write(name, value string) error {
	f, err := os.OpenFile(g.file(name), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(value)
	return errors.Join(err, f.Close())
}

// Place moves a process into the group. The descriptor of the process (see
// pidfd_open(2)) must be of pid: it is alive after the move as it was before,
// so that the move cannot have hit another process of the same number.
func (g *Group) Place(pid int, pidfd int) error {
	if err := Alive(pidfd); err != nil {
		return fmt.Errorf("place process %d: %w", pid, err)
	}
	if n, err := pidOf(pidfd); err != nil || n != pid {
		return fmt.Errorf("place process %d: the descriptor is of %d: %w", pid, n, errors.Join(ErrGone, err))
	}
	if err := g.write("cgroup.procs", strconv.Itoa(pid)); err != nil {
		if errors.Is(err, unix.ESRCH) {
			err = ErrGone
		}
		return fmt.Errorf("place process %d: %w", pid, err)
	}
	if err := Alive(pidfd); err != nil {
		return fmt.Errorf("place process %d: %w", pid, err)
	}
	return nil
}

// Warm makes a Place soon after cheap. The kernel's lock for moving processes (a
// percpu_rw_semaphore) is had by waiting for RCU, some 10 ms, unless somebody had
// it a moment ago; so this process is moved to where it is.
func Warm() error {
	dir, err := ownDir()
	if err != nil {
		return fmt.Errorf("warm up: %w", err)
	}
	return (&Group{Dir: dir}).write("cgroup.procs", strconv.Itoa(os.Getpid()))
}

// ownDir is the folder of this process's cgroup.
func ownDir() (string, error) {
	mount, err := Mount()
	if err != nil {
		return "", err
	}
	own, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return "", err
	}
	path, err := ownPath(string(own))
	return filepath.Join(mount, path), err
}

// Alive gives ErrGone once the process of a descriptor has ended: the descriptor
// is readable then (pidfd_open(2)).
func Alive(pidfd int) error {
	fds := []unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}
	for {
		n, err := unix.Poll(fds, 0)
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return fmt.Errorf("look at process: %w", err)
		case n > 0:
			return ErrGone
		}
		return nil
	}
}

// pidOf asks the kernel for a descriptor's process (proc(5), fdinfo).
func pidOf(pidfd int) (int, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/self/fdinfo/%d", pidfd))
	if err != nil {
		return 0, err
	}
	for line := range bytes.Lines(b) {
		if v, ok := bytes.CutPrefix(line, []byte("Pid:")); ok {
			return strconv.Atoi(string(bytes.TrimSpace(v)))
		}
	}
	return 0, errors.New("not the descriptor of a process")
}

// Processes lists the processes of the group and of the groups below it.
func (g *Group) Processes() ([]int, error) {
	var pids []int
	err := filepath.WalkDir(g.Dir, func(p string, d os.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return ignoreGone(err)
		}
		b, err := os.ReadFile(filepath.Join(p, "cgroup.procs"))
		for line := range bytes.Lines(b) {
			if n, err := strconv.Atoi(string(bytes.TrimSpace(line))); err == nil {
				pids = append(pids, n)
			}
		}
		return ignoreGone(err)
	})
	return pids, err
}

func ignoreGone(err error) error {
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ENODEV) {
		return nil
	}
	return err
}

func (g *Group) is(what string) (bool, error) {
	b, err := os.ReadFile(g.file("cgroup.events"))
	if err != nil {
		return false, err
	}
	return event(string(b), what)
}

// wait asks until an event has a value.
func (g *Group) wait(what string, want bool, limit time.Duration) (bool, error) {
	for end := time.Now().Add(limit); ; time.Sleep(2 * time.Millisecond) {
		is, err := g.is(what)
		if err != nil || is == want {
			return err == nil, err
		}
		if time.Now().After(end) {
			return false, nil
		}
	}
}

// Freeze stops every process of the group; Thaw lets them go on.
func (g *Group) Freeze(limit time.Duration) error {
	if err := g.write("cgroup.freeze", "1"); err != nil {
		return fmt.Errorf("freeze cgroup: %w", err)
	}
	ok, err := g.wait("frozen", true, limit)
	if err == nil && !ok {
		err = ErrFrozen
	}
	if err != nil {
		return fmt.Errorf("freeze cgroup: %w", err)
	}
	return nil
}

func (g *Group) Thaw() error {
	if err := g.write("cgroup.freeze", "0"); err != nil {
		return fmt.Errorf("thaw cgroup: %w", err)
	}
	return nil
}

// Kill ends every process of the group and waits until they have ended.
func (g *Group) Kill(limit time.Duration) error {
	err := g.write("cgroup.kill", "1") // Linux 5.14
	if errors.Is(err, os.ErrNotExist) {
		if _, statErr := os.Stat(g.Dir); errors.Is(statErr, os.ErrNotExist) {
			return nil
		}
		err = g.killEach(limit)
	}
	if err != nil {
		return fmt.Errorf("kill cgroup: %w", err)
	}
	empty, err := g.wait("populated", false, limit)
	if err == nil && !empty {
		err = errors.New("some processes do not end")
	}
	if err != nil {
		return fmt.Errorf("kill cgroup: %w", err)
	}
	return nil
}

// killEach freezes first, so that nothing is born meanwhile.
func (g *Group) killEach(limit time.Duration) error {
	freezeErr := g.Freeze(limit)
	pids, err := g.Processes()
	for _, pid := range pids {
		if e := unix.Kill(pid, unix.SIGKILL); e != nil && e != unix.ESRCH {
			err = errors.Join(err, e)
		}
	}
	if errors.Is(freezeErr, ErrFrozen) {
		freezeErr = nil // the kill will say
	}
	return errors.Join(freezeErr, err, g.Thaw())
}

// Remove removes the group, and the groups below it, which must have no
// processes.
func (g *Group) Remove() error {
	var dirs []string
	err := filepath.WalkDir(g.Dir, func(p string, d os.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			dirs = append(dirs, p)
		}
		return ignoreGone(err)
	})
	for i := len(dirs) - 1; i >= 0; i-- { // children come after their parents
		if e := unix.Rmdir(dirs[i]); e != nil && e != unix.ENOENT {
			err = errors.Join(err, &os.PathError{Op: "rmdir", Path: dirs[i], Err: e})
		}
	}
	if err != nil {
		return fmt.Errorf("remove cgroup: %w", err)
	}
	return nil
}

// Sweep kills and removes the groups below parent for which keep says no: what
// a crashed predecessor left.
func Sweep(parent string, keep func(name string, info Info) bool, limit time.Duration) (removed []string, err error) {
	entries, err := os.ReadDir(parent)
	if err != nil {
		return nil, fmt.Errorf("sweep cgroups: %w", err)
	}
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		g, openErr := Open(filepath.Join(parent, e.Name()))
		if openErr != nil {
			err = errors.Join(err, ignoreGone(openErr))
			continue
		}
		if keep(e.Name(), g.Info) {
			continue
		}
		if e2 := errors.Join(g.Kill(limit), g.Remove()); e2 != nil {
			err = errors.Join(err, e2)
			continue
		}
		removed = append(removed, e.Name())
	}
	return removed, err
}
