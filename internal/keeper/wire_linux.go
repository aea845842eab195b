package keeper

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// reader reads a stream socket and keeps the descriptors that come with it, in
// their order (SCM_RIGHTS, unix(7)).
type reader struct {
	conn *net.UnixConn
	fds  []int
}

// maxRights bounds what a peer can make this process hold.
const maxRights = 4

func (r *reader) Read(p []byte) (int, error) {
	oob := make([]byte, unix.CmsgSpace(maxRights*4))
	n, on, flags, _, err := r.conn.ReadMsgUnix(p, oob)
	if err != nil {
		return n, err
	}
	messages, err := unix.ParseSocketControlMessage(oob[:on])
	if err != nil {
		return 0, fmt.Errorf("receive descriptors: %w", err)
	}
	for i := range messages {
		fds, err := unix.ParseUnixRights(&messages[i])
		if err != nil {
			return 0, fmt.Errorf("receive descriptors: %w", err)
		}
		r.fds = append(r.fds, fds...)
	}
	if flags&unix.MSG_CTRUNC != 0 || len(r.fds) > maxRights {
		return 0, errors.New("receive descriptors: too many")
	}
	if n == 0 {
		return 0, io.EOF
	}
	return n, nil
}

// take gives the oldest descriptor that nobody has taken.
func (r *reader) take(what string) (*os.File, error) {
	if len(r.fds) == 0 {
		return nil, fmt.Errorf("receive descriptor of the %s: none came", what)
	}
	fd := r.fds[0]
	r.fds = r.fds[1:]
	return os.NewFile(uintptr(fd), what), nil
}

func (r *reader) close() {
	for _, fd := range r.fds {
		unix.Close(fd)
	}
	r.fds = nil
}

// send writes one message, with a descriptor if there is one. Callers take
// turns.
func send(conn *net.UnixConn, m any, f *os.File) error {
	b, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("encode message: %w", err)
	}
	b = append(b, '\n')
	if f == nil {
		_, err = conn.Write(b)
		return err
	}
	n, _, err := conn.WriteMsgUnix(b, unix.UnixRights(int(f.Fd())), nil)
	if err == nil && n < len(b) {
		_, err = conn.Write(b[n:])
	}
	return err
}

// unixConn takes a descriptor over.
func unixConn(f *os.File) (*net.UnixConn, error) {
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		return nil, fmt.Errorf("use the keeper's socket: %w", err)
	}
	u, ok := c.(*net.UnixConn)
	if !ok {
		c.Close()
		return nil, errors.New("use the keeper's socket: it is no unix socket")
	}
	return u, nil
}
