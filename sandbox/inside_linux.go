package sandbox

import (
	"errors"
	"fmt"
	"os"
	"path"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/internal/policy"
)

// inside is what the supervisor sees of a sandbox from outside.
type inside struct {
	dirs   []string                     // the sandbox's own, if all is as planned
	decide func(string) policy.Decision // on a socket of the host, by its path
	init   int                          // process 1
	root   int                          // its root directory, which the payload cannot change
	own    map[uint64]bool              // devices that are mounted nowhere but there
	netns  *netns

	threads threads

	mu   sync.Mutex
	seen map[fileID]int // sockets that were found to be made inside: open, so that the number stays theirs
}

type fileID struct{ dev, ino uint64 }

// maxSeen bounds the descriptors kept for them.
const maxSeen = 64

// enter looks around by a thread of process 1, before the payload exists.
func (in *inside) enter(tid int) error {
	in.init, in.root = leader(tid), -1
	root, err := unix.Open(fmt.Sprintf("/proc/%d/root", tid), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open the sandbox's root: %w", err)
	}
	in.root = root
	ino, err := netnsOf(tid)
	if err != nil {
		return err
	}
	in.netns = &netns{ino: ino}
	in.own = map[uint64]bool{}
	for _, dir := range in.dirs {
		if dev, ok := in.privateDevice(dir); ok {
			in.own[dev] = true
		}
	}
	return nil
}

// lives reports whether process 1 is there, and not another by its number.
func (in *inside) lives() bool {
	ino, err := netnsOf(in.init)
	return err == nil && in.netns != nil && ino == in.netns.ino
}

// privateDevice gives the device of a directory that is a tmpfs there, and not
// the one that is seen here.
func (in *inside) privateDevice(dir string) (uint64, bool) {
	fd, err := in.open(dir)
	if err != nil {
		return 0, false
	}
	defer unix.Close(fd)
	var fs unix.Statfs_t
	var there, here unix.Stat_t
	if unix.Fstatfs(fd, &fs) != nil || fs.Type != unix.TMPFS_MAGIC || unix.Fstat(fd, &there) != nil {
		return 0, false
	}
	if unix.Stat(dir, &here) == nil && here.Dev == there.Dev {
		return 0, false
	}
	return there.Dev, true
}

// close is for when nobody looks inside any more.
func (in *inside) close() {
	closeFD(in.root)
	in.forget()
}

// open finds a path as the payload would, once: what the descriptor stands for
// does not change any more. The links of /proc are not followed, they lead out
// of every root.
func (in *inside) open(name string) (int, error) {
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS}
	for range 16 {
		fd, err := unix.Openat2(in.root, name, &how)
		if !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EINTR) { // ".." beside a rename
			return fd, err
		}
	}
	return -1, unix.EAGAIN
}

// absolute gives the name that a thread means.
func absolute(tid int, name string) (string, error) {
	if path.IsAbs(name) {
		return name, nil
	}
	cwd, err := os.Readlink(fmt.Sprintf("/proc/%d/cwd", tid))
	if err != nil {
		return "", err
	}
	return cwd + "/" + name, nil // not cleaned: it may go up after a link
}

// pathOf gives the path of a descriptor as the sandbox sees it.
func pathOf(fd int) (string, error) { return os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd)) }

// made reports whether the file at fd was bound in the sandbox, where the host
// could have bound it, too. Then a process there holds the socket, which is of
// the sandbox's network namespace and whose file the kernel tells (SIOCUNIXFILE,
// Linux 4.12); a file is bound once. fd keeps its inode number from being used
// again.
func (in *inside) made(fd int) bool {
	var want unix.Stat_t
	if unix.Fstat(fd, &want) != nil {
		return false
	}
	id := fileID{want.Dev, want.Ino}
	in.mu.Lock()
	_, seen := in.seen[id]
	in.mu.Unlock()
	if seen {
		return true
	}
	if !in.search(&want) {
		return false
	}
	in.remember(id, fd)
	return true
}

func (in *inside) remember(id fileID, fd int) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if _, known := in.seen[id]; known {
		return
	}
	copied, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return
	}
	if len(in.seen) >= maxSeen {
		in.forget()
	}
	if in.seen == nil {
		in.seen = map[fileID]int{}
	}
	in.seen[id] = copied
}

func (in *inside) forget() {
	for _, fd := range in.seen {
		unix.Close(fd)
	}
	in.seen = nil
}

// search looks for a socket of the sandbox that is bound to a file.
func (in *inside) search(want *unix.Stat_t) bool {
	table, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/unix", in.init))
	if err != nil {
		return false
	}
	inodes := boundSockets(string(table))
	if len(inodes) == 0 {
		return false
	}
	for pid := range descendants(in.init) {
		if in.holdsBound(pid, inodes, want) {
			return true
		}
	}
	return false
}

// holdsBound looks through a process's descriptors.
func (in *inside) holdsBound(pid int, inodes map[uint64]bool, want *unix.Stat_t) bool {
	bound := false
	eachDescriptor(pid, func(fd int) bool {
		bound = in.boundTo(fd, inodes, want)
		return !bound
	})
	return bound
}

// eachDescriptor calls look with a copy of each descriptor of a process, until
// it returns false. /proc would show those of a process that is not dumpable,
// as agents are, to root alone.
func eachDescriptor(pid int, look func(fd int) bool) {
	pidfd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return
	}
	defer unix.Close(pidfd)
	size, _ := strconv.Atoi(statusField(pid, "FDSize")) // gone: none
	for fd := range min(size, maxHeldSockets) {
		held, err := unix.PidfdGetfd(pidfd, fd, 0)
		if err != nil {
			continue
		}
		more := look(held)
		unix.Close(held)
		if !more {
			return
		}
	}
}

// boundTo asks the kernel for a socket's file; the supervisor may, because the
// user namespace that owns the network namespace is its own.
func (in *inside) boundTo(sock int, inodes map[uint64]bool, want *unix.Stat_t) bool {
	var st unix.Stat_t
	if unix.Fstat(sock, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFSOCK || !inodes[st.Ino] || !in.netns.has(sock) {
		return false
	}
	// What accept(2) gave has its listener's file and its client's namespace.
	if _, err := unix.Getpeername(sock); !errors.Is(err, unix.ENOTCONN) {
		return false
	}
	const siocUnixFile = 0x89e0
	fd, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(sock), siocUnixFile, 0)
	if errno != 0 {
		return false
	}
	defer unix.Close(int(fd))
	return unix.Fstat(int(fd), &st) == nil && st.Dev == want.Dev && st.Ino == want.Ino
}

func closeFD(fd int) {
	if fd >= 0 {
		unix.Close(fd)
	}
}
