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
	if real, devIno, err := openPath(b.root, p, follow, cached); err == nil {
		return real, found{true, true, devIno}
	} else if !errors.Is(err, unix.ENOENT) {
		return p, found{}
	}
	trimmed := strings.TrimRight(p, "/")
	dir, last := path.Split(trimmed)
	if last == "" || last == "." || last == ".." {
		return p, found{}
	}
	real, _, err := openPath(b.root, dir, true, cached)
	if err != nil {
		return p, found{}
	}
	return path.Join(real, last), found{ok: true}
}

// openPath resolves a path inside root to where it really is.
func openPath(root *os.File, p string, follow, cached bool) (real, devInode string, err error) {
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS}
	if !follow {
		how.Flags |= unix.O_NOFOLLOW
	}
	tries := 8
	if cached {
		how.Resolve |= resolveCached
		tries = 1
	}
	fd, err := openRetry(int(root.Fd()), p, &how, tries)
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
