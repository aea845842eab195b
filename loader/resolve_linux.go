package loader

import (
	"errors"
	"fmt"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// found is what a path leads to.
type found struct {
	ok     bool // it was looked for
	exists bool
	devIno string
}

// resolve follows links and ".." as the sandbox's file system has them now. What
// a name did not lead to at the attempt it may lead to since: that is why the
// event says "path_source: user". Nothing is opened but for its path.
func (b *box) resolve(p string, follow bool) (string, found) {
	if b == nil || b.root == nil || !strings.HasPrefix(p, "/") {
		return p, found{}
	}
	done, err := b.eyes.open()
	if err != nil {
		return p, found{}
	}
	defer done()
	cached := b.eyes != nil
	real, devIno, err := openPath(b.root, p, follow, cached)
	switch {
	case err == nil:
		return real, found{true, true, devIno}
	case errors.Is(err, unix.ENOENT):
		return walk(b.root, p, follow, cached), found{ok: true}
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.ELOOP), errors.Is(err, unix.EAGAIN):
		// EAGAIN is RESOLVE_CACHED's word for a refusal, too.
		return walk(b.root, p, follow, cached), found{}
	}
	return p, found{}
}

// openPath resolves a path inside root to where it really is. Where mounts are
// being taken down, at the end of a sandbox, one may go between two steps: what is
// below it has a path that begins there. So what is not as it was asked for has to
// lead to the same.
func openPath(root *os.File, p string, follow, cached bool) (real, devInode string, err error) {
	for range 4 {
		real, devInode, err = lookAt(root, p, follow, cached)
		if err != nil || real == path.Clean(p) {
			break
		}
		if _, again, err := lookAt(root, real, false, cached); err == nil && again == devInode {
			break
		}
	}
	return real, devInode, err
}

func lookAt(root *os.File, p string, follow, cached bool) (real, devInode string, err error) {
	fd, err := openIn(root, p, follow, cached)
	if err != nil {
		return "", "", err
	}
	defer unix.Close(fd)
	if real, err = os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd)); err != nil {
		return "", "", err
	}
	devInode, links, err := inode(fd, cached)
	if err == nil && links == 0 {
		err = unix.ENOENT
	}
	return real, devInode, err
}

// openIn opens what a path inside root leads to, for its path alone.
func openIn(root *os.File, p string, follow, cached bool) (fd int, err error) {
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS}
	if !follow {
		how.Flags |= unix.O_NOFOLLOW
	}
	tries := 8
	if cached {
		how.Resolve |= resolveCached
		tries = 1
	}
	return openRetry(int(root.Fd()), p, &how, tries)
}

// openRetry: a rename beneath makes openat2 say EAGAIN (openat2(2)).
func openRetry(root int, p string, how *unix.OpenHow, tries int) (fd int, err error) {
	for range tries {
		fd, err = unix.Openat2(root, p, how)
		if err != unix.EAGAIN && err != unix.EINTR {
			return fd, err
		}
	}
	return fd, err
}

// maxLinks is the kernel's limit, too (path_resolution(7)).
const maxLinks = 40

// walk resolves a path of which a part is not there, or out of reach, as what is
// below a hidden directory: links up to there are followed, and the rest is as
// the name has it.
func walk(root *os.File, p string, follow, cached bool) string {
	if dir, last := path.Split(strings.TrimRight(p, "/")); last != "" && last != "." && last != ".." {
		if real, _, err := openPath(root, dir, true, cached); err == nil { // most often
			if _, err := readLink(root, real+"/"+last, cached); err != nil || !follow {
				return path.Join(real, last)
			}
		}
	}
	rest := strings.Split(strings.Trim(p, "/"), "/")
	at := "/"
	for links := 0; len(rest) > 0; {
		next := at + "/" + rest[0]
		if len(rest) > 1 || follow {
			if target, err := readLink(root, next, cached); err == nil {
				if links++; links > maxLinks {
					return p
				}
				if strings.HasPrefix(target, "/") {
					at, target = "/", withoutProc(target, "")
				}
				rest = append(strings.Split(strings.Trim(target, "/"), "/"), rest[1:]...)
				continue
			}
		}
		real, _, err := openPath(root, next, false, cached)
		if err != nil {
			return path.Join(at, path.Join(rest...))
		}
		at, rest = real, rest[1:]
	}
	return at
}

// answersItself tells file systems whose links the kernel reads by itself from those
// of FUSE and of the network, which could keep the reader waiting, and from /proc,
// whose links are others to everybody. It is by what statx(2), which asks nobody
// here, knows of chattr(1): ext4, XFS, Btrfs, tmpfs do.
func answersItself(fd int) bool {
	var st unix.Statx_t
	err := unix.Statx(fd, "", unix.AT_EMPTY_PATH|unix.AT_STATX_DONT_SYNC, unix.STATX_TYPE, &st)
	return err == nil && st.Attributes_mask&unix.STATX_ATTR_NODUMP != 0
}

// readLink reads what a link inside root leads to.
func readLink(root *os.File, p string, cached bool) (string, error) {
	fd, err := openIn(root, p, false, cached)
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	if !answersItself(fd) {
		return "", unix.ELOOP
	}
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(fd, "", buf) // EINVAL, ENOENT: no link
	if err != nil {
		return "", err
	}
	return string(buf[:n]), nil
}
