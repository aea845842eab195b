package e2e

import (
	"fmt"
	"net/netip"
	"runtime"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

func init() {
	attacks["uring"] = func(a []string) error { return throughRing(a[0], a[1], a[2]) }
}

// ring is what of io_uring(7) one request takes.
type ring struct {
	fd             int
	sq, cq, sqes   []byte
	params         ringParams
	sqPoll, worker bool
}

// ringParams is struct io_uring_params (linux/io_uring.h).
type ringParams struct {
	SQEntries, CQEntries, Flags, SQThreadCPU, SQThreadIdle, Features, WQFD uint32
	_                                                                      [3]uint32
	SQ                                                                     struct {
		Head, Tail, Mask, Entries, Flags, Dropped, Array, _ uint32
		_                                                   uint64
	}
	CQ struct {
		Head, Tail, Mask, Entries, Overflow, CQEs, Flags, _ uint32
		_                                                   uint64
	}
}

// sqe is struct io_uring_sqe.
type sqe struct {
	Op, Flags uint8
	_         uint16
	FD        int32
	Off, Addr uint64
	Len       uint32
	OpFlags   uint32
	UserData  uint64
	_         [3]uint64
}

// Numbers of linux/io_uring.h.
const (
	opSendmsg, opConnect, opOpenat, opSocket = 9, 16, 18, 45
	setupSQPoll, sqeAsync                    = 2, 16
	enterGetEvents, enterSQWakeup            = 1, 2
	offSQ, offCQ, offSQEs                    = 0, 0x8000000, 0x10000000
)

func openRing(how string) (*ring, error) {
	r := &ring{sqPoll: how == "sqpoll", worker: how == "worker"}
	if r.sqPoll {
		r.params.Flags, r.params.SQThreadIdle = setupSQPoll, 10_000
	}
	fd, _, errno := unix.Syscall(unix.SYS_IO_URING_SETUP, 4, uintptr(unsafe.Pointer(&r.params)), 0)
	if errno != 0 {
		return nil, errno
	}
	r.fd = int(fd)
	var err error
	for at, to := range map[int64]struct {
		area *[]byte
		size uint32
	}{offSQ: {&r.sq, r.params.SQ.Array + 4*r.params.SQEntries}, offCQ: {&r.cq, r.params.CQ.CQEs + 16*r.params.CQEntries}, offSQEs: {&r.sqes, 64 * r.params.SQEntries}} {
		if *to.area, err = unix.Mmap(r.fd, at, int(to.size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED); err != nil {
			return nil, err
		}
	}
	return r, nil
}

func word(area []byte, at uint32) *uint32 { return (*uint32)(unsafe.Pointer(&area[at])) }

// do makes one request and waits for what comes of it.
func (r *ring) do(e sqe) (int32, error) {
	if r.worker {
		e.Flags |= sqeAsync
	}
	*(*sqe)(unsafe.Pointer(&r.sqes[0])) = e
	*word(r.sq, r.params.SQ.Array) = 0
	atomic.StoreUint32(word(r.sq, r.params.SQ.Tail), 1)
	flags, submit := uintptr(enterGetEvents), uintptr(1)
	if r.sqPoll {
		flags |= enterSQWakeup
	}
	_, _, errno := unix.Syscall6(unix.SYS_IO_URING_ENTER, uintptr(r.fd), submit, 1, flags, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	for range 1000 { // a polling thread may be behind
		if atomic.LoadUint32(word(r.cq, r.params.CQ.Tail)) != 0 {
			res := *(*int32)(unsafe.Pointer(&r.cq[r.params.CQ.CQEs+8]))
			if res < 0 {
				return 0, unix.Errno(-res)
			}
			return res, nil
		}
		time.Sleep(time.Millisecond)
	}
	return 0, fmt.Errorf("nothing came of the request")
}

func rawAddr(addr string) []byte {
	a := netip.MustParseAddrPort(addr)
	v4 := a.Addr().As4()
	return append([]byte{unix.AF_INET, 0, byte(a.Port() >> 8), byte(a.Port()), v4[0], v4[1], v4[2], v4[3]}, make([]byte, 8)...)
}

// throughRing connects, sends, opens or makes a socket without the call of that name.
func throughRing(op, how, target string) error {
	var addr []byte
	e := sqe{FD: unix.AT_FDCWD}
	kind := unix.SOCK_STREAM
	if op == "sendmsg" {
		kind = unix.SOCK_DGRAM
	}
	fd, err := unix.Socket(unix.AF_INET, kind, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if op == "connect" || op == "sendmsg" {
		addr = rawAddr(target)
	}
	payload := []byte("hello")
	iov := unix.Iovec{Base: &payload[0], Len: uint64(len(payload))}
	msg := unix.Msghdr{Iov: &iov, Iovlen: 1}
	path := append([]byte(target), 0)
	var pins runtime.Pinner // the ring is told addresses as numbers
	defer pins.Unpin()
	pins.Pin(&payload[0])
	pins.Pin(&iov)
	pins.Pin(&msg)
	pins.Pin(&path[0])
	if addr != nil {
		pins.Pin(&addr[0])
	}
	switch op {
	case "connect":
		e.Op, e.FD, e.Addr, e.Off = opConnect, int32(fd), uint64(uintptr(unsafe.Pointer(&addr[0]))), uint64(len(addr))
	case "sendmsg":
		msg.Name, msg.Namelen = &addr[0], uint32(len(addr))
		e.Op, e.FD, e.Addr, e.Len = opSendmsg, int32(fd), uint64(uintptr(unsafe.Pointer(&msg))), 1
	case "openat":
		e.Op, e.Addr = opOpenat, uint64(uintptr(unsafe.Pointer(&path[0])))
	case "socket": // family in FD, type in Off, protocol in Len
		e.Op, e.FD, e.Off = opSocket, int32(atoi(target)), unix.SOCK_STREAM
	}
	r, err := openRing(how)
	if err != nil {
		return err
	}
	defer unix.Close(r.fd)
	_, err = r.do(e)
	return err
}
