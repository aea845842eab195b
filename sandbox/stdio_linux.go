package sandbox

import (
	"fmt"
	"io"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/sandbox/stage2"
)

// ConfinesFiles reports whether Landlock keeps a file that is handed over from
// being opened again through /proc/self/fd with more rights (ABI 1), and from
// being truncated there (ABI 3, Linux 6.2; landlock(7)).
func ConfinesFiles(abi int) bool { return abi >= 3 }

// stdio checks the three descriptors that the payload will have. It puts pipes
// in the place of sockets with which one could reach others from the host's
// network namespace, and of files that Landlock does not confine.
func (s *Sandbox) stdio(cfg Config) ([3]*os.File, error) {
	files := [3]*os.File{cfg.Stdin, cfg.Stdout, cfg.Stderr}
	s.relay = &relay{}
	confined := ConfinesFiles(LandlockABI())
	for i, f := range files {
		kind, err := streamKind(i, f)
		if err != nil {
			return files, err
		}
		if kind != unix.S_IFREG && kind != unix.S_IFSOCK || kind == unix.S_IFREG && confined || pairedSocket(f) {
			continue
		}
		if files[i], err = s.relay.add(f, i == 0); err != nil {
			return files, err
		}
	}
	return files, nil
}

// standIn puts /dev/null in the place of the caller's terminal, until stage 2
// has made the payload's.
func (s *Sandbox) standIn(stdio *[3]*os.File) (opened []*os.File, err error) {
	if s.term, err = findTerminal(*stdio); err != nil || s.term == nil {
		return nil, err
	}
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("stand in for the terminal: %w", err)
	}
	for i, yes := range s.term.streams {
		if yes {
			stdio[i] = null
		}
	}
	return []*os.File{null}, nil
}

// streamKind refuses descriptors that are a door: a directory or an O_PATH
// descriptor leads into the host's mounts (openat(2)), a block device under
// every file system.
func streamKind(i int, f *os.File) (uint32, error) {
	flags, err := unix.FcntlInt(f.Fd(), unix.F_GETFL, 0)
	if err != nil {
		return 0, fail("redirect it from or to /dev/null", "%s is closed: %w", stage2.StreamNames[i], err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return 0, fmt.Errorf("look at %s: %w", stage2.StreamNames[i], err)
	}
	kind := st.Mode & unix.S_IFMT
	what := ""
	switch {
	case flags&unix.O_PATH != 0:
		what = "an O_PATH descriptor"
	case kind == unix.S_IFDIR:
		what = "a directory"
	case kind == unix.S_IFBLK:
		what = "a block device"
	}
	if what != "" {
		return 0, fail("use a pipe, a file or a terminal", "%s is %s, which would be a way out of the sandbox", stage2.StreamNames[i], what)
	}
	return kind, nil
}

// pairedSocket reports whether a descriptor is a unix socket that leads to its
// peer and never elsewhere. A datagram socket can send to any address, and TCP
// can be disconnected and connected anew (connect(2), AF_UNSPEC).
func pairedSocket(f *os.File) bool {
	fd := int(f.Fd())
	domain, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN)
	if err != nil || domain != unix.AF_UNIX {
		return false
	}
	kind, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE)
	if err != nil || kind != unix.SOCK_STREAM && kind != unix.SOCK_SEQPACKET {
		return false
	}
	_, err = unix.Getpeername(fd)
	return err == nil
}

// relay copies between the caller's files and the pipes that stand for them.
type relay struct {
	copies []func()
	theirs []*os.File // the payload's ends
	ours   []*os.File
	out    sync.WaitGroup
}

func (r *relay) add(f *os.File, input bool) (*os.File, error) {
	pr, pw, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("make pipe: %w", err)
	}
	if input {
		r.theirs, r.ours = append(r.theirs, pr), append(r.ours, pw)
		r.copies = append(r.copies, func() { _, _ = io.Copy(pw, f); pw.Close() })
		return pr, nil
	}
	r.theirs, r.ours = append(r.theirs, pw), append(r.ours, pr)
	r.out.Add(1)
	r.copies = append(r.copies, func() { defer r.out.Done(); _, _ = io.Copy(f, pr) })
	return pw, nil
}

func (r *relay) start() {
	for _, f := range r.theirs {
		f.Close()
	}
	r.theirs = nil
	for _, c := range r.copies {
		go c()
	}
	r.copies = nil
}

// wait returns when all output has been copied.
func (r *relay) wait() {
	if r != nil && len(r.copies) == 0 {
		r.out.Wait()
	}
}

func (r *relay) close() {
	if r == nil {
		return
	}
	for _, f := range append(r.theirs, r.ours...) {
		f.Close()
	}
}
