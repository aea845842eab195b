package sandbox

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/internal/plan"
)

// maskWatch tells when a name of which a mask depends is made, removed or
// renamed on the host: the mask's own, and those of the directories that lead to
// it.
type maskWatch struct {
	file  *os.File                   // inotify(7); nil: there is none to be had
	names map[string]map[string]bool // by directory
	dirs  map[int32]string           // by watch
	// blind: not all directories are watched, so that somebody has to look from
	// time to time.
	blind  error
	closed chan struct{}
}

const (
	maskEvents = unix.IN_CREATE | unix.IN_DELETE | unix.IN_MOVED_FROM | unix.IN_MOVED_TO | unix.IN_ONLYDIR | unix.IN_DONT_FOLLOW
	// blindLook is how often to look at what cannot be watched.
	blindLook = 100 * time.Millisecond
)

func watchMasks(list []plan.Mount) *maskWatch {
	w := &maskWatch{names: map[string]map[string]bool{}, dirs: map[int32]string{}, closed: make(chan struct{})}
	for _, m := range list {
		for p := m.Path; p != "/"; p = path.Dir(p) {
			dir := path.Dir(p)
			if w.names[dir] == nil {
				w.names[dir] = map[string]bool{}
			}
			w.names[dir][path.Base(p)] = true
		}
	}
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		w.blind = fmt.Errorf("watch masked files: %w", err)
		return w
	}
	w.file = os.NewFile(uintptr(fd), "inotify")
	w.renew()
	return w
}

// renew watches the directories that have the names now.
func (w *maskWatch) renew() {
	if w == nil || w.file == nil {
		return
	}
	w.blind = nil
	for dir := range w.names {
		wd, err := w.add(dir)
		switch {
		case err == nil:
			w.dirs[wd] = dir
		case !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ENOTDIR):
			w.blind = fmt.Errorf("watch %s: %w", dir, err)
		}
	}
}

func (w *maskWatch) add(dir string) (int32, error) {
	conn, err := w.file.SyscallConn()
	if err != nil {
		return 0, err
	}
	var wd int
	var addErr error
	if err := conn.Control(func(fd uintptr) { wd, addErr = unix.InotifyAddWatch(int(fd), dir, maskEvents) }); err != nil {
		return 0, err
	}
	return int32(wd), addErr
}

// wait returns true when something has happened to one of the names, or may
// have; false when the watch is closed.
func (w *maskWatch) wait() bool {
	if w.file == nil {
		select {
		case <-w.closed:
			return false
		case <-time.After(blindLook):
			return true
		}
	}
	buf := make([]byte, 16<<10)
	for {
		deadline := time.Time{}
		if w.blind != nil {
			deadline = time.Now().Add(blindLook)
		}
		_ = w.file.SetReadDeadline(deadline) // closed: so is reading
		n, err := w.file.Read(buf)
		if errors.Is(err, os.ErrDeadlineExceeded) && w.blind != nil {
			return true
		}
		if err != nil {
			return false
		}
		if w.concerned(buf[:n]) {
			return true
		}
	}
}

// concerned reads a buffer of events (struct inotify_event: int32 wd, uint32
// mask, cookie, len; then the name, padded with zeros).
func (w *maskWatch) concerned(b []byte) bool {
	yes := false
	for len(b) >= unix.SizeofInotifyEvent {
		wd := int32(binary.NativeEndian.Uint32(b))
		mask := binary.NativeEndian.Uint32(b[4:])
		size := int(binary.NativeEndian.Uint32(b[12:]))
		b = b[unix.SizeofInotifyEvent:]
		if size > len(b) {
			return true
		}
		name, _, _ := bytes.Cut(b[:size], []byte{0})
		b = b[size:]
		switch {
		case mask&(unix.IN_Q_OVERFLOW|unix.IN_UNMOUNT) != 0:
			yes = true
		case mask&unix.IN_IGNORED != 0: // the directory has gone
			delete(w.dirs, wd)
		default:
			yes = yes || w.names[w.dirs[wd]][string(name)]
		}
	}
	return yes
}

// close ends a wait. It is called once.
func (w *maskWatch) close() {
	close(w.closed)
	if w.file != nil {
		w.file.Close()
	}
}
