package sandbox

import (
	"encoding/binary"
	"fmt"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// receive takes the sockets that stage 1 opened, and makes the network.
func (s *Sandbox) receive() error {
	oob, err := s.receiveHanded()
	close(s.handed)
	if err != nil {
		return err
	}
	return s.adopt(oob)
}

func (s *Sandbox) receiveHanded() ([]byte, error) {
	_ = unix.SetsockoptTimeval(int(s.control.Fd()), unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: int64(startTimeout / time.Second)})
	buf, oob := make([]byte, 64), make([]byte, unix.CmsgSpace(16*4))
	n, on, _, _, err := unix.Recvmsg(int(s.control.Fd()), buf, oob, unix.MSG_CMSG_CLOEXEC)
	// ECONNRESET: it left the plan unread; what it said before comes after that.
	// EINTR: what has a time limit is not restarted after a signal (signal(7)).
	for err == unix.ECONNRESET || err == unix.EINTR {
		n, on, _, _, err = unix.Recvmsg(int(s.control.Fd()), buf, oob, unix.MSG_CMSG_CLOEXEC)
	}
	if err != nil {
		return nil, fmt.Errorf("wait for stage 1: %w", err)
	}
	if n == 0 {
		return nil, s.died("stage 1")
	}
	report, err := s.report(buf[:n])
	if err != nil {
		return nil, explainStage1(err)
	}
	if report != 0 {
		s.NoPing = fmt.Sprintf("allow ping sockets: %v", syscall.Errno(report))
	}
	return oob[:on], nil
}

// report reads what stage 1 has said: what failed, or why there can be no ping
// sockets.
func (s *Sandbox) report(b []byte) (noPing uint32, err error) {
	if len(b) != 8 {
		return 0, fmt.Errorf("stage 1 reports in %d bytes", len(b))
	}
	r := [2]uint32{binary.NativeEndian.Uint32(b), binary.NativeEndian.Uint32(b[4:])}
	if r[0] != 0 {
		return 0, s.stage1.explain(r)
	}
	return r[1], nil
}

func (s *Sandbox) adopt(oob []byte) error {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil || len(messages) != 1 {
		return fmt.Errorf("receive sockets: %d control messages: %w", len(messages), err)
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil {
		return fmt.Errorf("receive sockets: %w", err)
	}
	if want := len(networkSockets(s.net)); len(fds) != want {
		return fmt.Errorf("receive sockets: got %d of %d", len(fds), want)
	}
	socks, err := setupNetwork(s.net, fds)
	if err != nil {
		return explainStage1(err)
	}
	s.who.diag, s.who.root = socks.Diag, s.cmd.pid
	s.sockets, err = adoptSockets(socks)
	return err
}
