package sandbox

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

const (
	// nflogSnap is how much of a refused packet is looked at: the IP header,
	// extension headers in any sane number, and ports.
	nflogSnap = 256
	// nflogFlush is how long the kernel may gather records into one message,
	// in hundredths of a second: batches hold about five times as many
	// records in the same receive buffer.
	nflogFlush = 1
	// nflogBuffer is asked for and cut down by net.core.rmem_max, usually to
	// some thousand records.
	nflogBuffer = 4 << 20
)

// bindNFLOG binds a socket to an NFLOG group of its network namespace. The
// binding belongs to the socket, wherever it is handed to.
func bindNFLOG(fd int, group uint16) error {
	// Cut down by the kernel to what is allowed; never an error (socket(7)).
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, nflogBuffer); err != nil {
		return fmt.Errorf("set nflog buffer: %w", err)
	}
	ae := netlink.NewAttributeEncoder()
	ae.ByteOrder = binary.BigEndian
	ae.Uint8(cfgCmd, cfgCmdBind)
	ae.Bytes(cfgMode, append(binary.BigEndian.AppendUint32(nil, nflogSnap), copyPacket, 0))
	ae.Uint32(cfgTimeout, nflogFlush)
	ae.Uint16(cfgFlags, cfgFlagSeq)
	attrs, err := ae.Encode()
	if err != nil {
		return fmt.Errorf("encode nflog configuration: %w", err)
	}
	m := configMessage(group, attrs)
	m.Header.Length = uint32(unix.SizeofNlMsghdr + len(m.Data))
	b, err := m.MarshalBinary()
	if err != nil {
		return fmt.Errorf("encode nflog configuration: %w", err)
	}
	return exchange(fd, b, func(uint32) string { return fmt.Sprintf("bind nflog group %d", group) }, 1)
}

func configMessage(group uint16, attrs []byte) netlink.Message {
	head := binary.BigEndian.AppendUint16([]byte{unix.AF_UNSPEC, unix.NFNETLINK_V0}, group)
	return netlink.Message{
		Header: netlink.Header{Type: msgConfig, Flags: netlink.Request | netlink.Acknowledge},
		Data:   append(head, attrs...),
	}
}

// nflogFile makes a file of an NFLOG socket.
func nflogFile(fd int) (*os.File, error) {
	// The runtime polls only what is already non-blocking.
	if err := unix.SetNonblock(fd, true); err != nil {
		return nil, fmt.Errorf("set nflog non-blocking: %w", err)
	}
	return os.NewFile(uintptr(fd), "nflog"), nil
}

// readNFLOG calls emit for every refused packet and lost with the number of
// those that went unrecorded, until stopNFLOG. Closing f, too, ends it, but with
// an error, since records may be missed. f may belong to another network
// namespace, but must come from nflogFile.
func readNFLOG(f *os.File, emit func(packetDenial), lost func(uint64)) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return fmt.Errorf("read nflog: %w", err)
	}
	var seen sequence
	buf := make([]byte, 1<<17) // the kernel's upper limit for one message
	for {
		n, err := receive(raw, buf)
		switch {
		case errors.Is(err, unix.ENOBUFS): // netlink(7): messages were dropped
			report(lost, seen.overrun())
			continue
		case err != nil:
			return fmt.Errorf("read nflog: %w", err)
		}
		done, err := parseNFLOG(buf[:n], func(seq uint32, d packetDenial) {
			report(lost, seen.next(seq))
			emit(d)
		})
		if done || err != nil {
			return err
		}
	}
}

func report(lost func(uint64), n uint64) {
	if n > 0 {
		lost(n)
	}
}

// receive reads one message of the kernel's; of anyone else's it returns
// nothing.
func receive(raw interface {
	Read(func(uintptr) bool) error
}, buf []byte) (n int, err error) {
	var from unix.Sockaddr
	var flags int
	waitErr := raw.Read(func(fd uintptr) bool {
		n, _, flags, from, err = unix.Recvmsg(int(fd), buf, nil, unix.MSG_DONTWAIT)
		return !errors.Is(err, unix.EAGAIN)
	})
	switch sa, _ := from.(*unix.SockaddrNetlink); {
	case waitErr != nil:
		return 0, waitErr
	case errors.Is(err, unix.EINTR):
		return 0, nil
	case err != nil:
		return 0, err
	case flags&unix.MSG_TRUNC != 0:
		return 0, unix.EMSGSIZE
	case sa == nil || sa.Pid != 0:
		return 0, nil
	}
	return n, nil
}

// stopNFLOG unbinds the group: the kernel sends what it still gathers and then
// its answer, at which readNFLOG returns. Nothing that was refused before this
// call is missed, and nothing has to be waited for. The caller must own the
// user namespace of the socket's network namespace.
func stopNFLOG(f *os.File, group uint16) error {
	ae := netlink.NewAttributeEncoder()
	ae.Uint8(cfgCmd, cfgCmdUnbind)
	attrs, err := ae.Encode()
	if err != nil {
		return fmt.Errorf("encode nflog configuration: %w", err)
	}
	m := configMessage(group, attrs)
	m.Header.Length = uint32(headerLen + len(m.Data))
	b, err := m.MarshalBinary()
	if err != nil {
		return fmt.Errorf("encode nflog configuration: %w", err)
	}
	raw, err := f.SyscallConn()
	if err != nil {
		return fmt.Errorf("stop nflog: %w", err)
	}
	var sendErr error
	err = raw.Control(func(fd uintptr) {
		sendErr = unix.Sendto(int(fd), b, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
	})
	if err := errors.Join(err, sendErr); err != nil {
		return fmt.Errorf("stop nflog: %w", err)
	}
	// The answer finds no room if the buffer is full; then the reader ends
	// here, with an error.
	return f.SetReadDeadline(time.Now().Add(time.Second))
}
