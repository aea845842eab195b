package loader

import (
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// outsideEnv tells the provoking process how sockets outside begin, which it is
// given descriptors of and should not reach.
const outsideEnv = "SALLYPORT_SELF_TEST_OUTSIDE"

// The descriptors, as the provoking process has them.
const (
	outsideTCP = 3 + iota
	outsideUDP
	outsideSender // a socket was sent over it
	outsideEnd
)

// outside is what of the world outside a self-test tries to reach.
type outside struct {
	name  string // of unix sockets, abstract
	files []*os.File
}

func makeOutside() (o *outside, err error) {
	o = &outside{name: fmt.Sprintf("@sallyport-self-test-%d-", os.Getpid())}
	defer func() {
		if err != nil {
			o.close()
			err = fmt.Errorf("make sockets outside: %w", err)
		}
	}()
	socket := func(family, kind int) int {
		fd := -1
		if err == nil {
			if fd, err = unix.Socket(family, kind|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0); err == nil {
				o.files = append(o.files, os.NewFile(uintptr(fd), "outside"))
			}
		}
		return fd
	}
	tcp := socket(unix.AF_INET, unix.SOCK_STREAM)
	socket(unix.AF_INET, unix.SOCK_DGRAM)
	if err != nil {
		return o, err
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return o, err
	}
	o.files = append(o.files, os.NewFile(uintptr(pair[0]), "outside"), os.NewFile(uintptr(pair[1]), "outside"))
	if err = unix.Sendmsg(pair[1], []byte{0}, unix.UnixRights(tcp), nil, 0); err != nil {
		return o, err
	}
	for kind, name := range map[int]string{unix.SOCK_STREAM: "stream", unix.SOCK_DGRAM: "datagram"} {
		fd := socket(unix.AF_UNIX, kind)
		if err == nil {
			err = unix.Bind(fd, &unix.SockaddrUnix{Name: o.name + name})
		}
		if err == nil && kind == unix.SOCK_STREAM {
			err = unix.Listen(fd, 1)
		}
	}
	return o, err
}

func (o *outside) give(cmd *exec.Cmd) {
	cmd.ExtraFiles = o.files[:outsideEnd-outsideTCP]
	cmd.Env = append(os.Environ(), outsideEnv+"="+o.name)
}

func (o *outside) close() {
	for _, f := range o.files {
		f.Close()
	}
}

// provokeLSM tries what only LSM programs refuse.
func provokeLSM() {
	name := os.Getenv(outsideEnv)
	if name == "" {
		return
	}
	own := &unix.SockaddrInet4{Port: 53, Addr: [4]byte{127, 0, 0, 1}}
	for _, family := range [][3]int{{unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_USERSOCK}} {
		if fd, err := unix.Socket(family[0], family[1]|unix.SOCK_CLOEXEC, family[2]); err == nil {
			unix.Close(fd)
		}
	}
	unix.Listen(outsideTCP, 1)
	unix.Connect(outsideTCP, own)
	unix.Sendto(outsideUDP, nil, 0, own)
	unix.Recvmsg(outsideSender, make([]byte, 1), make([]byte, unix.CmsgSpace(4)), unix.MSG_CMSG_CLOEXEC)
	if fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0); err == nil {
		unix.Connect(fd, &unix.SockaddrUnix{Name: name + "stream"})
	}
	if fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0); err == nil {
		unix.Sendto(fd, nil, 0, &unix.SockaddrUnix{Name: name + "datagram"})
	}
	syscall.ForkExec("/", []string{"/"}, &syscall.ProcAttr{Sys: &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWUSER}})
	if f, err := os.Open("/proc/" + strconv.Itoa(os.Getppid()) + "/mem"); err == nil {
		f.Close()
	}
}

// noteLSM finds the LSM program that a record proves.
func noteLSM(hits map[string]bool, r Record, pid int) {
	for _, h := range lsmHooks {
		if p := r.Event.Process; h.call == r.Call && p != nil && p.PID == pid {
			hits[h.program] = true
		}
	}
}
