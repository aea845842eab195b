package stage2

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// Rights reads a stream socket and keeps the descriptors that come with
// it, in their order (SCM_RIGHTS, unix(7)).
type Rights struct {
	file *os.File
	fds  []int
}

// NewRights reads a socket, which stays the caller's to close.
func NewRights(file *os.File) *Rights { return &Rights{file: file} }

// Read implements io.Reader.
func (r *Rights) Read(p []byte) (int, error) {
	oob := make([]byte, unix.CmsgSpace(4*4))
	for {
		n, on, flags, _, err := unix.Recvmsg(int(r.file.Fd()), p, oob, unix.MSG_CMSG_CLOEXEC)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return 0, err
		}
		if flags&unix.MSG_CTRUNC != 0 {
			return 0, errors.New("receive descriptors: more came than were expected")
		}
		if err := r.keep(oob[:on]); err != nil {
			return 0, err
		}
		if n == 0 {
			return 0, io.EOF
		}
		return n, nil
	}
}

func (r *Rights) keep(oob []byte) error {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return fmt.Errorf("receive descriptors: %w", err)
	}
	for i := range messages {
		fds, err := unix.ParseUnixRights(&messages[i])
		if err != nil {
			return fmt.Errorf("receive descriptors: %w", err)
		}
		r.fds = append(r.fds, fds...)
	}
	return nil
}

// Take gives the oldest descriptor that nobody has taken, -1 if there is none.
func (r *Rights) Take() int {
	if len(r.fds) == 0 {
		return -1
	}
	fd := r.fds[0]
	r.fds = r.fds[1:]
	return fd
}

// TakeStreams gives the three that come with a command; fewer if they did not.
func (r *Rights) TakeStreams() []int {
	n := min(len(r.fds), 3)
	fds := r.fds[:n:n]
	r.fds = r.fds[n:]
	return fds
}

// Close closes those that nobody has taken.
func (r *Rights) Close() {
	if r == nil {
		return
	}
	for _, fd := range r.fds {
		unix.Close(fd)
	}
	r.fds = nil
}

// SendWith sends a message with descriptors.
func SendWith(control *os.File, message any, fds ...int) error {
	b, err := json.Marshal(message)
	if err != nil {
		return fmt.Errorf("encode message: %w", err)
	}
	b = append(b, '\n')
	n, err := unix.SendmsgN(int(control.Fd()), b, unix.UnixRights(fds...), nil, 0)
	if err != nil {
		return fmt.Errorf("hand out descriptors: %w", err)
	}
	if n == len(b) {
		return nil
	}
	if _, err := control.Write(b[n:]); err != nil { // a signal came between
		return fmt.Errorf("hand out descriptors: %w", err)
	}
	return nil
}
