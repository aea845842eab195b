package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

func init() {
	helpers["denied"] = func() { deniedCorpus(os.Args[1]) }
	helpers["look"] = func() { lookFrom(os.Args[1], os.Args[2]) }
	helpers["dialer"] = dialer
	helpers["unique"] = func() {
		for i := range atoi(os.Args[2]) {
			_ = unix.Mkdir(fmt.Sprintf("%s/new-%d", os.Args[1], i), 0o700)
		}
	}
}

// deniedCall is one call that must fail: strings and bytes are passed by address.
type deniedCall struct {
	nr   uintptr
	args []any
	// What the record must say.
	Op, Path, To, Reason string
}

// deniedTruth is what came of one.
type deniedTruth struct {
	Op, Path, To, Reason, Errno string
}

const at = unix.AT_FDCWD

// deniedCorpus makes every call and prints what came of it. Paths are printed so
// that JSON keeps every byte.
func deniedCorpus(home string) {
	runtime.LockOSThread()
	out := json.NewEncoder(os.Stdout)
	var calls []deniedCall
	calls = append(calls, deniedOpens(home)...)
	calls = append(calls, deniedChanges(home)...)
	calls = append(calls, deniedLooks(home)...)
	calls = append(calls, deniedNames(home)...)
	calls = append(calls, deniedSockets(home)...)
	for _, c := range calls {
		errno := c.make()
		_ = out.Encode(deniedTruth{c.Op, fmt.Sprintf("%q", c.Path), fmt.Sprintf("%q", c.To), c.Reason, unix.ErrnoName(errno)})
	}
}

func (c deniedCall) make() unix.Errno {
	var raw [6]uintptr
	for i, v := range c.args {
		switch v := v.(type) {
		case int:
			raw[i] = uintptr(v)
		case string:
			b, _ := unix.BytePtrFromString(v)
			raw[i] = uintptr(unsafe.Pointer(b))
		case []byte:
			raw[i] = uintptr(unsafe.Pointer(&v[0]))
		}
	}
	_, _, errno := unix.RawSyscall6(c.nr, raw[0], raw[1], raw[2], raw[3], raw[4], raw[5])
	runtime.KeepAlive(c.args)
	return errno
}

func mustFD(fd int, err error) int {
	if err != nil {
		panic(err)
	}
	return fd
}

func deniedOpens(h string) []deniedCall {
	ro, how := mustFD(unix.Open(h+"/ro", unix.O_PATH, 0)), make([]byte, 24)
	how[0] = unix.O_WRONLY
	return []deniedCall{
		{unix.SYS_OPENAT, []any{at, h + "/.ssh/id", 0}, "file.read", h + "/.ssh/id", "", "path-hidden"},
		{unix.SYS_OPENAT, []any{at, h + "/ro/f", unix.O_RDWR}, "file.write", h + "/ro/f", "", "path-read-only"},
		{unix.SYS_OPENAT, []any{at, h + "/ro/new", unix.O_CREAT | unix.O_WRONLY, 0o600}, "file.create", h + "/ro/new", "", "path-read-only"},
		{unix.SYS_OPENAT, []any{at, "../ro/g", unix.O_WRONLY}, "file.write", h + "/ro/g", "", "path-read-only"},
		{unix.SYS_OPENAT, []any{ro, "./d/../h", unix.O_WRONLY}, "file.write", h + "/ro/h", "", "path-read-only"},
		{unix.SYS_OPENAT, []any{at, "link", unix.O_WRONLY}, "file.write", h + "/ro/i", "", "path-read-only"},
		{unix.SYS_OPENAT, []any{at, "dirlink/../j", unix.O_WRONLY}, "file.write", h + "/ro/j", "", "path-read-only"},
		{unix.SYS_OPENAT2, []any{at, h + "/ro/k", how, len(how)}, "file.write", h + "/ro/k", "", "path-read-only"},
		{unix.SYS_EXECVE, []any{h + "/ro/f", 0, 0}, "file.exec", h + "/ro/f", "", "system"},
		{unix.SYS_EXECVEAT, []any{ro, "g", 0, 0, 0}, "file.exec", h + "/ro/g", "", "system"},
		{unix.SYS_OPENAT, []any{at, "roots", unix.O_RDONLY}, "file.read", h + "/work/roots", "", "system"},
	}
}

func deniedChanges(h string) []deniedCall {
	ro, v := mustFD(unix.Open(h+"/ro", unix.O_PATH, 0)), []byte("x")
	f := mustFD(unix.Open(h+"/ro/f", unix.O_RDONLY, 0))
	return []deniedCall{
		{unix.SYS_MKDIRAT, []any{at, h + "/ro/m1", 0o700}, "file.create", h + "/ro/m1", "", "path-read-only"},
		{unix.SYS_MKDIRAT, []any{ro, "m2", 0o700}, "file.create", h + "/ro/m2", "", "path-read-only"},
		{unix.SYS_MKNODAT, []any{ro, "m3", unix.S_IFIFO | 0o600, 0}, "file.create", h + "/ro/m3", "", "path-read-only"},
		{unix.SYS_SYMLINKAT, []any{"target", ro, "m4"}, "file.create", h + "/ro/m4", "", "path-read-only"},
		{unix.SYS_UNLINKAT, []any{ro, "f", 0}, "file.delete", h + "/ro/f", "", "path-read-only"},
		{unix.SYS_UNLINKAT, []any{ro, "d", unix.AT_REMOVEDIR}, "file.delete", h + "/ro/d", "", "path-read-only"},
		{unix.SYS_RENAMEAT2, []any{ro, "f", ro, "r1", 0}, "file.rename", h + "/ro/f", h + "/ro/r1", "path-read-only"},
		{unix.SYS_RENAMEAT2, []any{at, "mine", ro, "r2", 0}, "file.rename", h + "/work/mine", h + "/ro/r2", "path-read-only"},
		{unix.SYS_LINKAT, []any{ro, "f", ro, "l1", 0}, "file.link", h + "/ro/f", h + "/ro/l1", "path-read-only"},
		{unix.SYS_LINKAT, []any{at, "mine", ro, "l2", 0}, "file.link", h + "/work/mine", h + "/ro/l2", "path-read-only"},
		{unix.SYS_TRUNCATE, []any{h + "/ro/l", 0}, "file.write", h + "/ro/l", "", "path-read-only"},
		{unix.SYS_FCHMODAT, []any{ro, "f", 0o777}, "file.meta", h + "/ro/f", "", "path-read-only"},
		{unix.SYS_FCHOWNAT, []any{ro, "g", 1, 1, 0}, "file.meta", h + "/ro/g", "", "path-read-only"},
		{unix.SYS_UTIMENSAT, []any{ro, "h", 0, 0}, "file.meta", h + "/ro/h", "", "path-read-only"},
		{unix.SYS_SETXATTR, []any{h + "/ro/i", "user.x", v, 1, 0}, "file.meta", h + "/ro/i", "", "path-read-only"},
		{unix.SYS_LREMOVEXATTR, []any{h + "/ro/j", "user.x"}, "file.meta", h + "/ro/j", "", "path-read-only"},
		{unix.SYS_FCHMOD, []any{f, 0o777}, "file.meta", h + "/ro/f", "", "path-read-only"},
		{unix.SYS_FSETXATTR, []any{f, "user.x", v, 1, 0}, "file.meta", h + "/ro/f", "", "path-read-only"},
	}
}

func deniedLooks(h string) []deniedCall {
	buf, watch := make([]byte, 512), mustFD(unix.InotifyInit())
	secret := h + "/.ssh/id"
	return []deniedCall{
		{unix.SYS_FACCESSAT, []any{at, secret, 0}, "file.read", secret, "", "path-hidden"},
		{unix.SYS_FACCESSAT, []any{at, h + "/ro/f", unix.W_OK}, "file.read", h + "/ro/f", "", "system"},
		{unix.SYS_STATX, []any{at, h + "/.ssh/a", 0, 0, buf}, "file.read", h + "/.ssh/a", "", "path-hidden"},
		{unix.SYS_READLINKAT, []any{at, h + "/.ssh/b", buf, len(buf)}, "file.read", h + "/.ssh/b", "", "path-hidden"},
		{unix.SYS_STATFS, []any{h + "/.ssh/c", buf}, "file.read", h + "/.ssh/c", "", "path-hidden"},
		{unix.SYS_GETXATTR, []any{h + "/.ssh/d", "user.x", buf, len(buf)}, "file.read", h + "/.ssh/d", "", "path-hidden"},
		{unix.SYS_CHDIR, []any{h + "/.ssh"}, "file.read", h + "/.ssh", "", "path-hidden"},
		{unix.SYS_INOTIFY_ADD_WATCH, []any{watch, h + "/.ssh/e", unix.IN_OPEN}, "file.read", h + "/.ssh/e", "", "path-hidden"},
	}
}

func deniedNames(h string) []deniedCall {
	long := h + "/ro" + strings.Repeat("/"+strings.Repeat("n", 200), 18)
	long += "/" + strings.Repeat("m", 4095-len(long)-1)
	var list []deniedCall
	for _, p := range []string{h + "/.ssh/new\nline", h + "/.ssh/not\xff\xfeUTF-8", h + "/.ssh/\x1b[31m", h + `/.ssh/back\slash"quote`,
		h + "/.ssh/" + strings.Repeat("x", 255), h + "/.ssh" + long[len(h)+3:len(long)-2]} {
		list = append(list, deniedCall{unix.SYS_OPENAT, []any{at, p, 0}, "file.read", p, "", "path-hidden"})
	}
	return list
}

func deniedSockets(h string) []deniedCall {
	stream := mustFD(unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0))
	udp, udp6 := mustFD(unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)), mustFD(unix.Socket(unix.AF_INET6, unix.SOCK_DGRAM, 0))
	tcp := mustFD(unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0))
	host := append([]byte{unix.AF_UNIX, 0}, h+"/ro/socket\x00"...)
	bound := append([]byte{unix.AF_UNIX, 0}, h+"/ro/bound\x00"...)
	out := []byte{unix.AF_INET, 0, 0, 99, 192, 0, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0}
	out6 := append([]byte{unix.AF_INET6, 0, 0, 99, 0, 0, 0, 0, 0x20, 1, 0xd, 0xb8}, make([]byte, 16)...)
	low := []byte{unix.AF_INET, 0, 0, 99, 127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0}
	return []deniedCall{
		{unix.SYS_CONNECT, []any{stream, host, len(host)}, "unix.connect", h + "/ro/socket", "", "not-allowed"},
		{unix.SYS_BIND, []any{stream, bound, len(bound)}, "file.create", h + "/ro/bound", "", "path-read-only"},
		{unix.SYS_BIND, []any{tcp, low, len(low)}, "net.bind", "", "", "system"},
		{unix.SYS_CONNECT, []any{udp, out, len(out)}, "net.udp", "", "", "protocol-denied"},
		{unix.SYS_SENDTO, []any{udp6, []byte("x"), 1, 0, out6, 28}, "net.udp", "", "", "protocol-denied"},
		{unix.SYS_SETSOCKOPT, []any{tcp, unix.SOL_SOCKET, unix.SO_MARK, []byte{1, 0, 0, 0}, 4}, "net.socket", "", "", "system"},
		{unix.SYS_SETSOCKOPT, []any{tcp, unix.SOL_IP, unix.IP_OPTIONS, []byte{1, 0, 0, 0}, 4}, "net.socket", "", "", "protocol-denied"},
		{unix.SYS_SOCKET, []any{unix.AF_INET, unix.SOCK_RAW, 1}, "net.raw", "", "", "socket-refused"},
		{unix.SYS_SOCKET, []any{unix.AF_PACKET, unix.SOCK_RAW, 0}, "net.raw", "", "", "socket-refused"},
		{unix.SYS_SOCKET, []any{unix.AF_VSOCK, unix.SOCK_STREAM, 0}, "net.socket", "", "", "socket-refused"},
		{unix.SYS_UNSHARE, []any{unix.CLONE_NEWUSER}, "ns.create", "", "", "syscall-refused"},
		{unix.SYS_CLONE, []any{unix.CLONE_NEWNS, 0, 0, 0, 0}, "ns.create", "", "", "syscall-refused"},
		{unix.SYS_MOUNT, []any{"none", h + "/work", "tmpfs", 0, 0}, "sys.refused", "", "", "syscall-refused"},
		{unix.SYS_PTRACE, []any{unix.PTRACE_ATTACH, 1, 0, 0}, "sys.refused", "", "", "syscall-refused"},
		{unix.SYS_IO_URING_SETUP, []any{1, make([]byte, 200)}, "sys.refused", "", "", "syscall-refused"},
		{unix.SYS_KEYCTL, []any{0, 0}, "sys.refused", "", "", "syscall-refused"},
		{unix.SYS_BPF, []any{0, 0, 0}, "sys.refused", "", "", "syscall-refused"},
		{unix.SYS_IOCTL, []any{0, unix.TIOCSTI, []byte("x")}, "sys.refused", "", "", "syscall-refused"},
	}
}

// lookFrom is refused a file, as who it is told to be.
func lookFrom(how, path string) {
	runtime.LockOSThread()
	look := func(p string) { _ = unix.Access(p, 0) }
	self := func(more ...string) *exec.Cmd {
		c := exec.Command("/proc/self/exe", more...)
		c.Env = []string{helperEnv + "=look"}
		return c
	}
	switch how {
	case "plain":
		look(path)
	case "lies":
		name := []byte("[kworker/0:1]\x00")
		_ = unix.Prctl(unix.PR_SET_NAME, uintptr(unsafe.Pointer(&name[0])), 0, 0, 0)
		look(path)
	case "threads":
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				runtime.LockOSThread()
				look(fmt.Sprintf("%s-%d", path, i))
			})
		}
		wg.Wait()
	case "short": // some hundred microseconds each: they fail to execute
		for range 50 {
			if _, err := syscall.ForkExec(path, []string{"never"}, nil); err != syscall.EACCES {
				panic(err)
			}
		}
	case "deleted":
		gone := filepath.Join(os.Getenv("HOME"), "work/gone")
		b, _ := os.ReadFile("/proc/self/exe")
		if err := os.WriteFile(gone, b, 0o755); err != nil {
			panic(err)
		}
		c := exec.Command(gone, "unlink", path)
		c.Env = []string{helperEnv + "=look"}
		_ = c.Run()
	case "unlink":
		_ = os.Remove(os.Args[0])
		look(path)
	case "orphan": // its parent has gone when it looks
		c := self("orphaned", path)
		_ = c.Start()
	case "orphaned":
		for unix.Getppid() != 1 {
			runtime.Gosched()
		}
		look(path)
		if err := os.WriteFile("looked", nil, 0o600); err != nil {
			panic(err)
		}
	}
}
