package loader

import (
	"runtime"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Operations of io_uring(7), by their numbers in linux/io_uring.h.
const (
	opConnect = 16
	opOpenat  = 18
	opSocket  = 45
)

// ring is an io_uring with room for one operation at a time.
type ring struct {
	fd            int
	sq, cq, entry []byte
	params        ringParams
}

// ringParams is struct io_uring_params.
type ringParams struct {
	entries, completions, flags, cpu, idle, features, wq uint32
	reserved                                             [3]uint32
	sq, cq                                               ringOffsets
}

// ringOffsets is struct io_sqring_offsets; in io_cqring_offsets b is where the
// completions are.
type ringOffsets struct {
	head, tail, mask, entries, a, b, array, reserved uint32
	address                                          uint64
}

// ringOp is what of struct io_uring_sqe is used.
type ringOp struct {
	code  uint8
	async bool // by a worker
	fd    int32
	off   uint64
	addr  unsafe.Pointer
	len   uint32
	flags uint32
}

func newRing() (*ring, error) {
	r := &ring{}
	fd, _, errno := unix.Syscall(unix.SYS_IO_URING_SETUP, 2, uintptr(unsafe.Pointer(&r.params)), 0)
	if errno != 0 {
		return nil, errno
	}
	r.fd = int(fd)
	var err error
	for _, m := range []struct {
		to  *[]byte
		at  int64
		len int
	}{{&r.sq, 0, 4096}, {&r.cq, 0x8000000, 4096}, {&r.entry, 0x10000000, 4096}} {
		if *m.to, err = unix.Mmap(r.fd, m.at, m.len, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_POPULATE); err != nil {
			return nil, err
		}
	}
	return r, nil
}

func word(b []byte, at uint32) *uint32 { return (*uint32)(unsafe.Pointer(&b[at])) }

// do makes one operation and gives its error.
func (r *ring) do(op ringOp) error {
	tail := word(r.sq, r.params.sq.tail)
	i := *tail & *word(r.sq, r.params.sq.mask)
	e := r.entry[64*i : 64*i+64]
	clear(e)
	e[0] = op.code
	if op.async {
		e[1] = 1 << 4 // IOSQE_ASYNC
	}
	*(*int32)(unsafe.Pointer(&e[4])) = op.fd
	*(*uint64)(unsafe.Pointer(&e[8])) = op.off
	*(*uint64)(unsafe.Pointer(&e[16])) = uint64(uintptr(op.addr))
	*(*uint32)(unsafe.Pointer(&e[24])) = op.len
	*(*uint32)(unsafe.Pointer(&e[28])) = op.flags
	*word(r.sq, r.params.sq.array+4*i) = i
	atomic.StoreUint32(tail, *tail+1)
	_, _, errno := unix.Syscall6(unix.SYS_IO_URING_ENTER, uintptr(r.fd), 1, 1, 1 /* IORING_ENTER_GETEVENTS */, 0, 0)
	runtime.KeepAlive(op)
	if errno != 0 {
		return errno
	}
	head := word(r.cq, r.params.cq.head)
	done := r.cq[r.params.cq.b+16*(*head&*word(r.cq, r.params.cq.mask)):]
	result := *(*int32)(unsafe.Pointer(&done[8]))
	atomic.StoreUint32(head, *head+1)
	if result < 0 {
		return unix.Errno(-result)
	}
	if op.code != opConnect {
		unix.Close(int(result))
	}
	return nil
}
