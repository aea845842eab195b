package e2e

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// An attack is a few words, "rename FROM TO", made by this binary
// inside a sandbox, or outside to prove that it is one. Its result is "ok" or
// the error number's name.
var attacks = map[string]func(a []string) error{
	"read": func(a []string) error {
		if fi, err := os.Stat(a[0]); err == nil && fi.IsDir() {
			_, err := os.ReadDir(a[0])
			return err
		}
		_, err := os.ReadFile(a[0])
		return err
	},
	"open": func(a []string) error { // one call
		fd, err := unix.Open(a[0], unix.O_RDONLY|unix.O_CLOEXEC, 0)
		unix.Close(fd)
		return err
	},
	"stat":    func(a []string) error { _, err := os.Stat(a[0]); return err },
	"write":   func(a []string) error { return writeTo(a[0], unix.O_WRONLY|unix.O_APPEND) },
	"rewrite": func(a []string) error { return writeTo(a[0], unix.O_RDWR|unix.O_TRUNC) },
	"create":  func(a []string) error { return writeTo(a[0], unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL) },
	"make":    func(a []string) error { return writeTo(a[0], unix.O_WRONLY|unix.O_CREAT) },
	// The same content again: a kernel setting survives the attack's success.
	"resave": func(a []string) error {
		b, err := os.ReadFile(a[0])
		if err != nil {
			return err
		}
		f, err := os.OpenFile(a[0], os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		_, err = f.Write(b)
		return err
	},
	"truncate": func(a []string) error { return os.Truncate(a[0], 0) },
	"mkdir":    func(a []string) error { return os.Mkdir(a[0], 0o755) },
	"mkdirs":   func(a []string) error { _ = os.MkdirAll(filepath.Dir(a[0]), 0o755); return os.Mkdir(a[0], 0o755) },
	"unlink":   func(a []string) error { return unix.Unlink(a[0]) },
	"rmdir":    func(a []string) error { return unix.Rmdir(a[0]) },
	"chmod":    func(a []string) error { return os.Chmod(a[0], 0o777) },
	"utimes":   func(a []string) error { return unix.Utimes(a[0], make([]unix.Timeval, 2)) },
	"rename":   func(a []string) error { return unix.Rename(a[0], a[1]) },
	"exchange": func(a []string) error {
		return unix.Renameat2(unix.AT_FDCWD, a[0], unix.AT_FDCWD, a[1], unix.RENAME_EXCHANGE)
	},
	"link":    func(a []string) error { return unix.Link(a[0], a[1]) },
	"symlink": func(a []string) error { return unix.Symlink(a[0], a[1]) },
	"linkfd": func(a []string) error { // by descriptor, as /proc shows it
		fd, err := unix.Open(a[0], unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		return unix.Linkat(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", fd), unix.AT_FDCWD, a[1], unix.AT_SYMLINK_FOLLOW)
	},
	"lease": func(a []string) error {
		fd, err := unix.Open(a[0], unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		_, err = unix.FcntlInt(uintptr(fd), unix.F_SETLEASE, unix.F_RDLCK)
		return err
	},
	"kill":    func(a []string) error { return unix.Kill(atoi(a[0]), unix.Signal(atoi(a[1]))) },
	"signal0": func(a []string) error { return unix.Kill(atoi(a[0]), 0) },
	"peek": func(a []string) error { // memory of another process
		f, err := os.Open("/proc/" + a[0] + "/mem")
		if err != nil {
			return err
		}
		_, err = f.ReadAt(make([]byte, 1), 0x400000)
		return err
	},
	"ptrace":  func(a []string) error { return unix.PtraceSeize(atoi(a[0])) },
	"traceme": func([]string) error { return call(unix.SYS_PTRACE, unix.PTRACE_TRACEME, 0, 0) },
	"vmread": func(a []string) error {
		b := make([]byte, 8)
		local := []unix.Iovec{{Base: &b[0], Len: 8}}
		_, err := unix.ProcessVMReadv(processOf(a[0]), local, []unix.RemoteIovec{{Base: uintptr(unsafe.Pointer(&base)), Len: 8}}, 0)
		return err
	},
	"socket": func(a []string) error {
		_, err := unix.Socket(atoi(a[0]), atoi(a[1]), atoi(a[2]))
		return err
	},
	"unshare": func(a []string) error { return unix.Unshare(atoi(a[0])) },
	"clone": func(a []string) error { // a child that ends at once
		pid, _, errno := syscall.RawSyscall6(unix.SYS_CLONE, uintptr(atoi(a[0]))|uintptr(unix.SIGCHLD), 0, 0, 0, 0, 0)
		if pid == 0 && errno == 0 {
			unix.RawSyscall(unix.SYS_EXIT, 0, 0, 0)
		}
		return known(errno)
	},
	"setns": func(a []string) error {
		fd, err := unix.Open(a[0], unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		return unix.Setns(fd, 0)
	},
	"mount":       func(a []string) error { return unix.Mount("none", a[0], "tmpfs", 0, "") },
	"bindmount":   func(a []string) error { return unix.Mount(a[0], a[1], "", unix.MS_BIND, "") },
	"remount":     func(a []string) error { return unix.Mount("", a[0], "", unix.MS_REMOUNT|unix.MS_BIND, "") },
	"umount":      func(a []string) error { return unix.Unmount(a[0], unix.MNT_DETACH) },
	"opentree":    func(a []string) error { _, err := unix.OpenTree(unix.AT_FDCWD, a[0], 1); return err },
	"chroot":      func(a []string) error { return unix.Chroot(a[0]) },
	"bpf":         func([]string) error { return call(unix.SYS_BPF, 0, 0, 0) },
	"perf":        func([]string) error { return call(unix.SYS_PERF_EVENT_OPEN, 0, 0, 0) },
	"userfaultfd": func([]string) error { return call(unix.SYS_USERFAULTFD, 1, 0, 0) }, // UFFD_USER_MODE_ONLY
	"io_uring": func([]string) error {
		var params [120]byte
		return call(unix.SYS_IO_URING_SETUP, 1, uintptr(unsafe.Pointer(&params)), 0)
	},
	"findkey": func(a []string) error {
		_, err := unix.KeyctlSearch(unix.KEY_SPEC_SESSION_KEYRING, "user", a[0], 0)
		return err
	},
	"readkey": func(a []string) error {
		_, err := unix.KeyctlInt(unix.KEYCTL_DESCRIBE, atoi(a[0]), 0, 0, 0)
		return err
	},
	"handle":   func(a []string) error { return openByHandle(a[0]) },
	"typein":   func(a []string) error { return ioctlOn(a[0], unix.TIOCSTI) },
	"typein64": func(a []string) error { return ioctlOn(a[0], unix.TIOCSTI|1<<32) },
	"paste":    func(a []string) error { return ioctlOn(a[0], 0x541c) }, // TIOCLINUX
	"corelimit": func([]string) error {
		return unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{Cur: unix.RLIM_INFINITY, Max: unix.RLIM_INFINITY})
	},
	"setuid": func([]string) error { return call(unix.SYS_SETUID, 0, 0, 0) },
}

func atoi(s string) int {
	n, err := strconv.ParseInt(s, 0, 64)
	if err != nil {
		panic(err)
	}
	return int(n)
}

func known(errno syscall.Errno) error {
	if errno != 0 {
		return errno
	}
	return nil
}

func call(nr, a, b, c uintptr) error {
	_, _, errno := unix.Syscall6(nr, a, b, c, 0, 0, 0)
	return known(errno)
}

func writeTo(path string, flags int) error {
	fd, err := unix.Open(path, flags|unix.O_NONBLOCK|unix.O_CLOEXEC, 0o644)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	_, err = unix.Write(fd, []byte("pwned"))
	return err
}

func ioctlOn(path string, req uintptr) error {
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return err
	}
	c := byte('x')
	return call(unix.SYS_IOCTL, f.Fd(), req, uintptr(unsafe.Pointer(&c)))
}

func openByHandle(path string) error {
	h, _, err := unix.NameToHandleAt(unix.AT_FDCWD, path, 0)
	if err != nil {
		return err
	}
	fd, err := unix.Open("/", unix.O_RDONLY, 0)
	if err != nil {
		return err
	}
	_, err = unix.OpenByHandleAt(fd, h, unix.O_RDONLY)
	return err
}

func init() {
	helpers["attack"] = func() {
		for _, line := range os.Args[1:] {
			words := strings.Fields(line)
			fmt.Printf("%s: %s\n", line, errnoName(attacks[words[0]](words[1:])))
		}
	}
	helpers["fds"] = func() {
		entries, _ := os.ReadDir("/proc/self/fd")
		for _, e := range entries {
			target, err := os.Readlink("/proc/self/fd/" + e.Name())
			if err == nil { // not the directory's own
				fmt.Println(e.Name(), target)
			}
		}
	}
	helpers["stdin"] = func() {
		b, err := io.ReadAll(os.Stdin)
		fmt.Printf("%q %v\n", b, err)
	}
}

func errnoName(err error) string {
	var errno syscall.Errno
	switch {
	case err == nil:
		return "ok"
	case errors.As(err, &errno):
		return unix.ErrnoName(errno)
	}
	return err.Error()
}

// attack makes attacks inside and compares: each is "ATTACK: RESULT", where
// RESULT may be several, with | between them.
func (h *home) attack(want ...string) *result {
	h.t.Helper()
	r := h.helper("attack", attacksOf(want)...)
	compareAttacks(h.t, "inside", r.out, want, r.err)
	return r
}

// attackOutside makes attacks as the same user without a sandbox: what it shows
// is that they are possible.
func (h *home) attackOutside(want ...string) {
	h.t.Helper()
	args := append([]string{helperEnv + "=attack", h.helperPath()}, attacksOf(want)...)
	out, err := h.program(h.t.Context(), "/usr/bin/env", args...).CombinedOutput()
	if err != nil {
		h.t.Fatalf("%v: %s", err, out)
	}
	compareAttacks(h.t, "outside", string(out), want, "")
}

func attacksOf(want []string) []string {
	var list []string
	for _, w := range want {
		attempt, _, _ := strings.Cut(w, ": ")
		list = append(list, attempt)
	}
	return list
}

func compareAttacks(t *testing.T, where, out string, want []string, errOut string) {
	t.Helper()
	lines := strings.Split(strings.TrimSuffix(out, "\n"), "\n")
	if len(lines) != len(want) {
		t.Fatalf("%s: %d attacks gave %d lines:\n%s%s", where, len(want), len(lines), out, errOut)
	}
	for i, w := range want {
		attempt, results, _ := strings.Cut(w, ": ")
		got := strings.TrimPrefix(lines[i], attempt+": ")
		found := false
		for _, r := range strings.Split(results, "|") {
			found = found || r == got
		}
		if !found {
			t.Errorf("%s: %s: %s, want %s", where, attempt, got, results)
		}
	}
}
