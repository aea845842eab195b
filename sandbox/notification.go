package sandbox

import (
	"encoding/binary"
	"fmt"
)

// Sizes of struct seccomp_notif and struct seccomp_notif_resp, linux/seccomp.h.
// A newer kernel's may be longer (SECCOMP_GET_NOTIF_SIZES), never shorter.
const (
	notificationSize = 80
	responseSize     = 24
)

// notification is a system call that waits for the supervisor's answer. The
// kernel's copy of the arguments is the call's own; what they point to is not.
type notification struct {
	id       uint64
	tid      int // of the calling thread, as the supervisor sees it
	nr, arch uint32
	args     [6]uint64
}

func parseNotification(b []byte) (notification, error) {
	if len(b) < notificationSize {
		return notification{}, fmt.Errorf("read seccomp notification: %d of %d bytes", len(b), notificationSize)
	}
	n := notification{
		id:   binary.NativeEndian.Uint64(b),
		tid:  int(int32(binary.NativeEndian.Uint32(b[8:]))),
		nr:   binary.NativeEndian.Uint32(b[16:]),
		arch: binary.NativeEndian.Uint32(b[20:]),
	}
	for i := range n.args {
		n.args[i] = binary.NativeEndian.Uint64(b[32+8*i:])
	}
	return n, nil
}

// putResponse answers a notification: errno, or 0 for success. The flags stay 0:
// no call is ever let through to the kernel (SECCOMP_USER_NOTIF_FLAG_*), because
// the memory that it reads could be other than what was decided on.
func putResponse(b []byte, id uint64, errno uint32) {
	clear(b)
	binary.NativeEndian.PutUint64(b, id)
	binary.NativeEndian.PutUint32(b[16:], -errno)
}
