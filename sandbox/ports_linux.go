package sandbox

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Sockets of a network namespace are made by a process in it. To join it takes
// its user namespace, which only a process with a single thread may join
// (setns(2)): a copy of this one that makes them, hands them over and ends, as
// stage 1 does. One copy makes several, for the next connections.
const socketsAtOnce = 8

// dialLimit is how long a server in the sandbox may take to accept: its queue
// may be full.
const dialLimit = 5 * time.Second

// innerPorts makes connections into the sandbox, and listens there.
type innerPorts struct {
	mu        sync.Mutex
	user, net int // namespaces; -1: closed
	spare     map[int][]int
}

// openPorts opens the way to the sandbox's loopback, once; Close closes it.
func (s *Sandbox) openPorts() (*innerPorts, error) {
	s.portsOnce.Do(func() { s.ports, s.portsErr = joinable(s.cmd.pid) })
	return s.ports, s.portsErr
}

// joinable holds the namespaces of a process.
func joinable(pid int) (*innerPorts, error) {
	open := func(name string) (int, error) {
		fd, err := unix.Open(fmt.Sprintf("/proc/%d/ns/%s", pid, name), unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return -1, fmt.Errorf("open the sandbox's %s namespace: %w", name, err)
		}
		return fd, nil
	}
	network, err := open("net")
	if err != nil {
		return nil, err
	}
	// The one that it belongs to, wherever the process is by now.
	user, err := unix.IoctlRetInt(network, unix.NS_GET_USERNS)
	if err != nil {
		unix.Close(network)
		return nil, fmt.Errorf("find the owner of the sandbox's network namespace: %w", err)
	}
	unix.CloseOnExec(user)
	return &innerPorts{user: user, net: network, spare: map[int][]int{}}, nil
}

func (p *innerPorts) close() {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, list := range p.spare {
		for _, fd := range list {
			unix.Close(fd)
		}
	}
	p.spare = map[int][]int{}
	closeFD(p.user)
	closeFD(p.net)
	p.user, p.net = -1, -1
}

// socket gives a TCP socket of the sandbox's, which does not block.
func (p *innerPorts) socket(family int) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.net < 0 {
		return -1, net.ErrClosed
	}
	if len(p.spare[family]) == 0 {
		fds, err := makeSockets(p.user, p.net, family)
		if err != nil {
			return -1, err
		}
		p.spare[family] = fds
	}
	list := p.spare[family]
	fd := list[len(list)-1]
	p.spare[family] = list[:len(list)-1]
	return fd, nil
}

func makeSockets(user, network, family int) ([]int, error) {
	ours, theirs, err := socketpair(unix.SOCK_SEQPACKET)
	if err != nil {
		return nil, err
	}
	defer ours.Close()
	prog := newProgram()
	prog.control = theirs.Fd()
	prog.add("join the sandbox's user namespace", unix.SYS_SETNS, user, unix.CLONE_NEWUSER)
	prog.add("join the sandbox's network namespace", unix.SYS_SETNS, network, unix.CLONE_NEWNET)
	prog.sendSockets(int(theirs.Fd()), family, socketsAtOnce)
	prog.add("end", unix.SYS_EXIT_GROUP, 0)
	runtime.LockOSThread()
	pid, err := prog.fork()
	runtime.UnlockOSThread()
	theirs.Close()
	if err != nil {
		return nil, fmt.Errorf("fork: %w", err)
	}
	defer reap(pid)
	return receiveSockets(int(ours.Fd()), prog)
}

// sendSockets makes n sockets and sends them, with one byte.
func (p *program) sendSockets(to, family, n int) {
	const header = unix.SizeofCmsghdr / 4
	cmsg := p.reserve(header + n)
	h := (*unix.Cmsghdr)(unsafe.Pointer(&p.results[cmsg]))
	h.Level, h.Type = unix.SOL_SOCKET, unix.SCM_RIGHTS
	h.SetLen(unix.CmsgLen(4 * n))
	for i := range n {
		p.add("open a socket in the sandbox", unix.SYS_SOCKET, family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.IPPROTO_TCP)
		p.saveAs(cmsg + header + result(i))
	}
	iov := &unix.Iovec{Base: new(byte), Len: 1}
	msg := &unix.Msghdr{Iov: iov, Iovlen: 1, Control: (*byte)(unsafe.Pointer(h))}
	msg.SetControllen(unix.CmsgSpace(4 * n))
	p.keep = append(p.keep, iov, msg)
	p.add("hand out sockets", unix.SYS_SENDMSG, to, uintptr(unsafe.Pointer(msg)), unix.MSG_NOSIGNAL)
}

func receiveSockets(fd int, prog *program) ([]int, error) {
	buf, oob := make([]byte, 8), make([]byte, unix.CmsgSpace(socketsAtOnce*4))
	n, on, _, _, err := unix.Recvmsg(fd, buf, oob, unix.MSG_CMSG_CLOEXEC)
	for errors.Is(err, unix.EINTR) {
		n, on, _, _, err = unix.Recvmsg(fd, buf, oob, unix.MSG_CMSG_CLOEXEC)
	}
	switch {
	case err != nil:
		return nil, fmt.Errorf("receive sockets: %w", err)
	case n == 8:
		return nil, prog.explain([2]uint32(unsafe.Slice((*uint32)(unsafe.Pointer(&buf[0])), 2)))
	case n != 1:
		return nil, errors.New("make sockets in the sandbox: the child that does it was killed")
	}
	messages, err := unix.ParseSocketControlMessage(oob[:on])
	if err != nil || len(messages) != 1 {
		return nil, fmt.Errorf("receive sockets: %d control messages: %w", len(messages), err)
	}
	return unix.ParseUnixRights(&messages[0])
}

func reap(pid int) {
	for {
		if _, err := unix.Wait4(pid, nil, 0, nil); !errors.Is(err, unix.EINTR) {
			return
		}
	}
}

// ListenInside listens on a port of the sandbox's loopback, of both families
// where there are two.
func (s *Sandbox) ListenInside(port uint16) ([]net.Listener, error) {
	p, err := s.openPorts()
	if err != nil {
		return nil, err
	}
	var all []net.Listener
	for _, at := range s.loopback(port) {
		l, err := p.listen(at)
		if err != nil {
			for _, l := range all {
				l.Close()
			}
			return nil, err
		}
		all = append(all, l)
	}
	return all, nil
}

// loopback is where servers on it are found.
func (s *Sandbox) loopback(port uint16) []netip.AddrPort {
	list := []netip.AddrPort{netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), port)}
	if s.net.Proxy6.IsValid() {
		list = append(list, netip.AddrPortFrom(netip.IPv6Loopback(), port))
	}
	return list
}

func family(at netip.AddrPort) int {
	if at.Addr().Is6() {
		return unix.AF_INET6
	}
	return unix.AF_INET
}

func (p *innerPorts) listen(at netip.AddrPort) (net.Listener, error) {
	fd, err := p.socket(family(at))
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), "port")
	defer f.Close()
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
		return nil, fmt.Errorf("set SO_REUSEADDR: %w", err)
	}
	if err := unix.Bind(fd, sockaddrOf(at)); err != nil {
		return nil, fmt.Errorf("bind %s in the sandbox: %w", at, err)
	}
	if err := unix.Listen(fd, unix.SOMAXCONN); err != nil {
		return nil, fmt.Errorf("listen at %s in the sandbox: %w", at, err)
	}
	return net.FileListener(f)
}

// DialInside connects to a port of the sandbox's loopback: a server may listen
// on one family alone.
func (s *Sandbox) DialInside(ctx context.Context, port uint16) (net.Conn, error) {
	p, err := s.openPorts()
	if err != nil {
		return nil, err
	}
	var errs []error
	for _, at := range s.loopback(port) {
		c, err := p.dial(ctx, at)
		if err == nil {
			return c, nil
		}
		errs = append(errs, fmt.Errorf("connect to %s in the sandbox: %w", at, err))
	}
	return nil, errors.Join(errs...)
}

func (p *innerPorts) dial(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
	fd, err := p.socket(family(to))
	if err != nil {
		return nil, err
	}
	err = unix.Connect(fd, sockaddrOf(to))
	f := os.NewFile(uintptr(fd), "port")
	defer f.Close()
	if errors.Is(err, unix.EINPROGRESS) || errors.Is(err, unix.EINTR) {
		err = connected(ctx, f)
	}
	if err != nil {
		return nil, err
	}
	return net.FileConn(f)
}

// connected waits until a connection is made, or cannot be.
func connected(ctx context.Context, f *os.File) error {
	limit := time.Now().Add(dialLimit)
	if t, ok := ctx.Deadline(); ok && t.Before(limit) {
		limit = t
	}
	_ = f.SetDeadline(limit) // a socket has one
	defer context.AfterFunc(ctx, func() { _ = f.SetDeadline(time.Unix(1, 0)) })()
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var made error
	err = raw.Write(func(fd uintptr) bool {
		errno, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ERROR)
		switch {
		case err != nil:
			made = err
		case errno != 0:
			made = unix.Errno(errno)
		default:
			_, made = unix.Getpeername(int(fd))
			return !errors.Is(made, unix.ENOTCONN)
		}
		return true
	})
	return errors.Join(err, made)
}
