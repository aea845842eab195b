package feature

import (
	"errors"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// verdict turns the errno of a trial call into an answer; absent lists the
// errnos by which a kernel says that it knows no such thing.
func verdict(what string, err error, absent ...error) error {
	if err == nil {
		return nil
	}
	for _, a := range absent {
		if errors.Is(err, a) {
			return missing("%s: %v", what, err)
		}
	}
	return fmt.Errorf("%s: %w", what, err)
}

func probeLandlock() (string, error) {
	abi, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if errno != 0 {
		return "", verdict("landlock_create_ruleset", errno, unix.ENOSYS, unix.EOPNOTSUPP)
	}
	return fmt.Sprintf("ABI %d", abi), nil
}

// probeSeccompNotify asks for the sizes of the notification's structures, which
// came together with the notification.
func probeSeccompNotify() (string, error) {
	var sizes [3]uint16
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_GET_NOTIF_SIZES, 0, uintptr(unsafe.Pointer(&sizes)))
	if errno != 0 {
		return "", verdict("seccomp(SECCOMP_GET_NOTIF_SIZES)", errno, unix.ENOSYS, unix.EINVAL)
	}
	return "", nil
}

func probePidfdGetfd() (string, error) {
	self, err := unix.PidfdOpen(os.Getpid(), 0)
	if err != nil {
		return "", verdict("pidfd_open", err, unix.ENOSYS)
	}
	defer unix.Close(self)
	fd, err := unix.PidfdGetfd(self, self, 0)
	if err != nil {
		return "", verdict("pidfd_getfd", err, unix.ENOSYS)
	}
	return "", unix.Close(fd)
}

func probeOpenat2() (string, error) {
	fd, err := unix.Openat2(unix.AT_FDCWD, "/", &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT})
	if err != nil {
		return "", verdict("openat2", err, unix.ENOSYS)
	}
	return "", unix.Close(fd)
}

// probeCloseRange closes a range that no process has descriptors in.
func probeCloseRange() (string, error) {
	return "", verdict("close_range", unix.CloseRange(1<<30, 1<<30, 0), unix.ENOSYS)
}

func probeMPTCP() (string, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, unix.IPPROTO_MPTCP)
	if err != nil {
		return "", verdict("socket(IPPROTO_MPTCP)", err, unix.EPROTONOSUPPORT, unix.ENOPROTOOPT, unix.EINVAL)
	}
	return "", unix.Close(fd)
}
