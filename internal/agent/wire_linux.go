package agent

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/internal/process"
)

// sender is who sent a packet, as the kernel says (unix(7), SCM_CREDENTIALS):
// not who connected, since descriptors travel.
type sender struct {
	pid int
	uid uint32
}

var errDescriptors = errors.New("descriptors are not taken")

// packetReader reads packets with their senders.
type packetReader struct {
	conn *net.UnixConn
	buf  [1 + packetData + 1]byte
	oob  [256]byte
}

// next gives a packet, valid until the next call. Descriptors that came with it
// are closed, and it is an error.
func (r *packetReader) next() ([]byte, sender, error) {
	n, on, flags, _, err := r.conn.ReadMsgUnix(r.buf[:], r.oob[:])
	if err != nil {
		return nil, sender{}, err
	}
	if flags&unix.MSG_TRUNC != 0 {
		return nil, sender{}, errTooLarge
	}
	from, fds, err := parseControl(r.oob[:on])
	for _, fd := range fds {
		unix.Close(fd)
	}
	if err == nil && (len(fds) > 0 || flags&unix.MSG_CTRUNC != 0) {
		err = errDescriptors
	}
	return r.buf[:n], from, err
}

// parseControl takes the sender and the descriptors out of control messages.
func parseControl(oob []byte) (from sender, fds []int, err error) {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return from, nil, fmt.Errorf("read control messages: %w", err)
	}
	known := false
	for _, m := range messages {
		if m.Header.Level != unix.SOL_SOCKET {
			continue
		}
		switch m.Header.Type {
		case unix.SCM_CREDENTIALS:
			cred, e := unix.ParseUnixCredentials(&m)
			if e != nil {
				return from, fds, fmt.Errorf("read credentials: %w", e)
			}
			from, known = sender{int(cred.Pid), cred.Uid}, true
		case unix.SCM_RIGHTS:
			for data := m.Data; len(data) >= 4; data = data[4:] {
				fds = append(fds, int(int32(binary.NativeEndian.Uint32(data))))
			}
		}
	}
	if !known || from.pid <= 0 { // 0: in a pid namespace that cannot be seen from here
		err = errors.New("the sender is not known")
	}
	return from, fds, err
}

// passCredentials has the kernel name the sender of every packet from now on.
func passCredentials(fd int) error {
	return os.NewSyscallError("setsockopt SO_PASSCRED", unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PASSCRED, 1))
}

// peerOf takes hold of the process that connected.
func peerOf(c *net.UnixConn) (*process.Process, *unix.Ucred, error) {
	var cred *unix.Ucred
	pidfd := -1
	err := onFD(c, func(fd int) (err error) {
		if cred, err = unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED); err != nil {
			return os.NewSyscallError("getsockopt SO_PEERCRED", err)
		}
		if n, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PEERPIDFD); err == nil { // Linux 6.5
			pidfd = n
		}
		return nil
	})
	if err != nil {
		return nil, nil, err
	}
	if pidfd >= 0 {
		unix.CloseOnExec(pidfd)
		p, err := process.Hold(int(cred.Pid), pidfd)
		return p, cred, err
	}
	// The number can be another's by now: the nonce of the greeting, sent from here
	// on, must come back from this process.
	p, err := process.Open(int(cred.Pid))
	return p, cred, err
}

// onFD calls f with the descriptor of a connection or a listener.
func onFD(c syscall.Conn, f func(fd int) error) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var inner error
	err = raw.Control(func(fd uintptr) { inner = f(int(fd)) })
	return errors.Join(err, inner)
}

// sendPackets writes a message, with descriptors in its last packet.
func sendPackets(c *net.UnixConn, packets [][]byte, files []*os.File, limit time.Duration) error {
	var deadline time.Time
	if limit > 0 {
		deadline = time.Now().Add(limit)
	}
	if err := c.SetWriteDeadline(deadline); err != nil {
		return err
	}
	for i, p := range packets {
		var oob []byte
		if i == len(packets)-1 && len(files) > 0 {
			var fds []int
			for _, f := range files {
				fds = append(fds, int(f.Fd()))
			}
			oob = unix.UnixRights(fds...)
		}
		if _, _, err := c.WriteMsgUnix(p, oob, nil); err != nil {
			return err
		}
	}
	return nil
}
