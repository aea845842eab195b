package loader

import (
	"encoding/json"
	"errors"
	"os"
	"runtime"
	"strconv"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// attempts of the LSM programs' tests: each gives what came of it.
type lsmAttempt struct {
	name string
	do   func() error
}

func init() {
	payloads["lsm-refused"] = func(args []string) int { return tryAll(refusedAttempts(args[0])) }
	payloads["lsm-own"] = func(args []string) int { return tryAll(ownAttempts(args[0], args[1])) }
}

// tryAll prints what came of each attempt, by its name.
func tryAll(list []lsmAttempt) int {
	runtime.LockOSThread()
	came := map[string]int{}
	for _, a := range list {
		var errno unix.Errno
		if err := a.do(); err != nil && !errors.As(err, &errno) {
			errno = unix.EIO
		}
		came[a.name] = int(errno)
	}
	if json.NewEncoder(os.Stdout).Encode(came) != nil {
		return 1
	}
	return 0
}

func open(family, kind, protocol int) error {
	fd, err := unix.Socket(family, kind|unix.SOCK_CLOEXEC, protocol)
	if err == nil {
		unix.Close(fd)
	}
	return err
}

// toUnix connects, or sends, to a unix socket.
func toUnix(kind int, name string) error {
	fd, err := unix.Socket(unix.AF_UNIX, kind|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if kind == unix.SOCK_DGRAM {
		return unix.Sendto(fd, []byte("x"), 0, &unix.SockaddrUnix{Name: name})
	}
	return unix.Connect(fd, &unix.SockaddrUnix{Name: name})
}

// receive takes one descriptor, or tells that it was withheld.
func receive(from int) error {
	oob := make([]byte, unix.CmsgSpace(4))
	_, n, flags, _, err := unix.Recvmsg(from, make([]byte, 1), oob, unix.MSG_CMSG_CLOEXEC)
	if err != nil {
		return err
	}
	messages, err := unix.ParseSocketControlMessage(oob[:n])
	if flags&unix.MSG_CTRUNC != 0 || err != nil || len(messages) == 0 {
		return unix.EPERM
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	for _, fd := range fds {
		unix.Close(fd)
	}
	return err
}

// What a payload is given from outside, after the standard streams.
const (
	givenTCP = 3 + iota
	givenUDP
	givenConnected // a datagram socket with a peer
	givenControl   // over which descriptors were sent, in the order of sentKinds
)

var sentKinds = []string{"socket", "file", "pipe", "memory"}

var ownPort53 = &unix.SockaddrInet4{Port: 53, Addr: [4]byte{127, 0, 0, 1}}

// newUser makes a process in a user namespace of its own.
func newUser() error {
	pid, err := syscall.ForkExec("/bin/true", []string{"true"}, &syscall.ProcAttr{Sys: &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWUSER}})
	if err == nil {
		syscall.Wait4(pid, nil, 0, nil)
	}
	return err
}

func readMemory(pid int) error {
	f, err := os.Open("/proc/" + strconv.Itoa(pid) + "/mem")
	if err == nil {
		f.Close()
	}
	return err
}

// readVM reads some of a process's memory. That there is nothing at that address
// is found out later than who asks.
func readVM(pid int) error {
	buf := make([]byte, 8)
	local := []unix.Iovec{{Base: &buf[0], Len: 8}}
	_, err := unix.ProcessVMReadv(pid, local, []unix.RemoteIovec{{Base: 8, Len: 8}}, 0)
	if errors.Is(err, unix.EFAULT) {
		return nil
	}
	return err
}

func refusedAttempts(d string) []lsmAttempt {
	outside := os.Getppid()
	list := []lsmAttempt{
		{"packet", func() error { return open(unix.AF_PACKET, unix.SOCK_RAW, 0) }},
		{"vsock", func() error { return open(unix.AF_VSOCK, unix.SOCK_STREAM, 0) }},
		{"alg", func() error { return open(unix.AF_ALG, unix.SOCK_SEQPACKET, 0) }},
		{"netfilter", func() error { return open(unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_NETFILTER) }},
		{"listen", func() error { return unix.Listen(givenTCP, 1) }},
		{"connect", func() error { return unix.Connect(givenTCP, ownPort53) }},
		{"fast open", func() error { return unix.Sendto(givenTCP, []byte("x"), unix.MSG_FASTOPEN, ownPort53) }},
		{"connect datagrams", func() error { return unix.Connect(givenUDP, ownPort53) }},
		{"send", func() error { return unix.Sendto(givenUDP, []byte("x"), 0, ownPort53) }},
		{"write", func() error { _, err := unix.Write(givenConnected, []byte("x")); return err }},
		{"stream by path", func() error { return toUnix(unix.SOCK_STREAM, d+"/stream") }},
		{"stream by abstract name", func() error { return toUnix(unix.SOCK_STREAM, "@"+d+"/stream") }},
		{"datagram by path", func() error { return toUnix(unix.SOCK_DGRAM, d+"/datagram") }},
		{"datagram by abstract name", func() error { return toUnix(unix.SOCK_DGRAM, "@"+d+"/datagram") }},
		{"user namespace", newUser},
		{"memory", func() error { return readMemory(outside) }},
		{"process_vm_readv", func() error { return readVM(outside) }},
	}
	for _, kind := range sentKinds {
		list = append(list, lsmAttempt{"receive " + kind, func() error { return receive(givenControl) }})
	}
	if r, err := newRing(); err == nil {
		to := make([]byte, 16)
		*(*unix.RawSockaddrInet4)(unsafe.Pointer(&to[0])) = unix.RawSockaddrInet4{Family: unix.AF_INET, Addr: ownPort53.Addr}
		list = append(list,
			lsmAttempt{"ring socket", func() error { return r.do(ringOp{code: opSocket, fd: unix.AF_PACKET, off: unix.SOCK_RAW}) }},
			lsmAttempt{"ring connect", func() error {
				return r.do(ringOp{code: opConnect, fd: givenTCP, addr: unsafe.Pointer(&to[0]), off: uint64(len(to))})
			}},
			// The mark of a ring's refusal is not that of the thread's next call.
			lsmAttempt{"after the ring", func() error { return unix.Chmod("/proc/self/status", 0o600) }})
	}
	return list
}

// ownAttempts use what a sandbox makes for itself, and what its rules list.
func ownAttempts(d, listed string) []lsmAttempt {
	unixPair := func(kind int, name string) func() error {
		return func() error {
			fd, err := unix.Socket(unix.AF_UNIX, kind|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				return err
			}
			defer unix.Close(fd)
			if err := unix.Bind(fd, &unix.SockaddrUnix{Name: name}); err != nil {
				return err
			}
			if kind != unix.SOCK_DGRAM {
				if err := unix.Listen(fd, 1); err != nil {
					return err
				}
			}
			return toUnix(kind, name)
		}
	}
	return []lsmAttempt{
		{"stream", unixPair(unix.SOCK_STREAM, d+"/own-stream")},
		{"sequenced packets", unixPair(unix.SOCK_SEQPACKET, d+"/own-packets")},
		{"datagram", unixPair(unix.SOCK_DGRAM, d+"/own-datagram")},
		{"abstract", unixPair(unix.SOCK_STREAM, "@"+d+"/own")},
		{"listed", func() error { return toUnix(unix.SOCK_STREAM, listed) }},
		{"routes", func() error { return open(unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_ROUTE) }},
		{"own TCP", ownTCP},
		{"own socket handed over", handOver},
		{"what was given", func() error { _, err := unix.Write(givenTCP, []byte("x")); return err }},
		{"own child's memory", ownChild},
	}
}

func ownTCP() error {
	l, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(l)
	if err := unix.Listen(l, 1); err != nil {
		return err
	}
	at, err := unix.Getsockname(l)
	if err != nil {
		return err
	}
	to := &unix.SockaddrInet4{Port: at.(*unix.SockaddrInet4).Port, Addr: ownPort53.Addr}
	c, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(c)
	if err := unix.Connect(c, to); err != nil {
		return err
	}
	s, _, err := unix.Accept4(l, unix.SOCK_CLOEXEC)
	if err != nil {
		return err
	}
	defer unix.Close(s)
	_, err = unix.Write(s, []byte("x"))
	return err
}

// handOver sends a socket of its own, and the accepted end of a unix socket.
func handOver() error {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(pair[0])
	defer unix.Close(pair[1])
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	for _, send := range []int{fd, pair[0]} {
		if err := unix.Sendmsg(pair[0], []byte("x"), unix.UnixRights(send), nil, 0); err != nil {
			return err
		}
		if err := receive(pair[1]); err != nil {
			return err
		}
	}
	return nil
}

func ownChild() error {
	pid, err := syscall.ForkExec("/bin/sleep", []string{"sleep", "60"}, nil)
	if err != nil {
		return err
	}
	err = errors.Join(readMemory(pid), readVM(pid))
	syscall.Kill(pid, syscall.SIGKILL)
	syscall.Wait4(pid, nil, 0, nil)
	return err
}
