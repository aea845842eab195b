package sandbox

import (
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/internal/plan"
)

// listen takes the listener of the payload's filter from stage 2, and returns
// when it answers.
func (s *Sandbox) listen() error {
	m, err := s.next()
	if err != nil {
		return err
	}
	fd := s.rights.take()
	if m.Listener == nil || fd < 0 {
		closeFD(fd)
		return errors.New("start stage 2: it sent no seccomp listener")
	}
	arch, err := plan.ParseArch(runtime.GOARCH)
	if err != nil {
		return err
	}
	dirs := append([]string{"/tmp", "/run", "/dev", "/dev/shm"}, s.plan.RuntimeDir)
	s.calls = newListener(fd, s.plan.Seccomp, arch, &inside{dirs: dirs, decide: s.plan.DecideUnix}, s.emit)
	s.calls.restarts = !m.Listener.Killable
	go s.calls.serve()
	select {
	case err = <-s.calls.ready:
	case <-time.After(startTimeout):
		err = errors.New("no system call arrived")
	}
	if err != nil {
		return fmt.Errorf("answer refused system calls: %w", err)
	}
	return nil
}

// rightsReader reads a stream socket and keeps the descriptors that come along.
type rightsReader struct {
	file *os.File
	fds  []int
}

func (r *rightsReader) Read(b []byte) (n int, err error) {
	conn, err := r.file.SyscallConn()
	if err != nil {
		return 0, err
	}
	oob := make([]byte, unix.CmsgSpace(4*4))
	var on int
	var recvErr error
	err = conn.Read(func(fd uintptr) bool {
		n, on, _, _, recvErr = unix.Recvmsg(int(fd), b, oob, unix.MSG_CMSG_CLOEXEC)
		return true // the socket is a blocking one
	})
	if err := errors.Join(err, recvErr); err != nil {
		return 0, err
	}
	r.keep(oob[:on])
	if n == 0 {
		return 0, io.EOF
	}
	return n, nil
}

func (r *rightsReader) keep(oob []byte) {
	messages, _ := unix.ParseSocketControlMessage(oob) // ours; without a descriptor take says so
	for _, m := range messages {
		fds, _ := unix.ParseUnixRights(&m)
		r.fds = append(r.fds, fds...)
	}
}

// take gives the first descriptor that came, -1 if none did.
func (r *rightsReader) take() int {
	if len(r.fds) == 0 {
		return -1
	}
	fd := r.fds[0]
	r.fds = r.fds[1:]
	return fd
}

func (r *rightsReader) close() {
	if r == nil {
		return
	}
	for _, fd := range r.fds {
		unix.Close(fd)
	}
}
