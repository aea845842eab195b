package loader

import (
	"errors"
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// Eyes are a user as whom paths are resolved: whoever reads a record learns of
// the file system what that user may find out, and no file system of the user's
// can keep the reader waiting, because only what the kernel holds in memory is
// looked at (RESOLVE_CACHED, Linux 5.12; before, paths are cleaned as text).
// It takes CAP_SETUID and CAP_SETGID, in a process without further groups.
type Eyes struct{ UID, GID uint32 }

// resolveCached is RESOLVE_CACHED of linux/openat2.h.
const resolveCached = 0x20

// StartAs is Start for a loader that serves many users.
func (l *Loader) StartAs(id uint64, root *os.File, e Eyes) error {
	if err := l.Start(id, root); err != nil {
		return err
	}
	l.boxes.mu.Lock()
	defer l.boxes.mu.Unlock()
	if b := l.boxes.byID[id]; b != nil {
		b.eyes = &e
	}
	return nil
}

// open makes this thread's file accesses the user's, and gives what ends that.
// Leaving user 0 it has no power over files any more, and coming back has it
// again (capabilities(7), "Effect of user ID changes").
func (e *Eyes) open() (done func(), err error) {
	if e == nil {
		return func() {}, nil
	}
	runtime.LockOSThread()
	uid, gid := os.Geteuid(), os.Getegid()
	done = func() {
		if setFS(uid, gid) == nil {
			runtime.UnlockOSThread()
		} // else the thread ends with its goroutine
	}
	if err := setFS(int(e.UID), int(e.GID)); err != nil {
		done()
		return nil, err
	}
	return done, nil
}

// setFS: the calls answer with the id before, whatever happens; asked twice they
// tell.
func setFS(uid, gid int) error {
	if uid == 0 { // with its power comes that over the group
		_, _ = unix.SetfsuidRetUid(uid)
	}
	_, _ = unix.SetfsgidRetGid(gid)
	_, _ = unix.SetfsuidRetUid(uid)
	g, err := unix.SetfsgidRetGid(gid)
	u, err2 := unix.SetfsuidRetUid(uid)
	if g != gid || u != uid {
		return errors.Join(fmt.Errorf("look as user %d and group %d: refused", uid, gid), err, err2)
	}
	return nil
}

// inode gives what an open path leads to, without asking a file system that is
// not the kernel's own.
func inode(fd int, cached bool) (devIno string, links uint64, err error) {
	if cached {
		var st unix.Statx_t
		if err := unix.Statx(fd, "", unix.AT_EMPTY_PATH|unix.AT_STATX_DONT_SYNC, unix.STATX_INO|unix.STATX_NLINK, &st); err != nil {
			return "", 0, err
		}
		return fmt.Sprintf("%d:%d", unix.Mkdev(st.Dev_major, st.Dev_minor), st.Ino), uint64(st.Nlink), nil
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return "", 0, err
	}
	return fmt.Sprintf("%d:%d", st.Dev, st.Ino), uint64(st.Nlink), nil
}
