package loader

import (
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// attempt is one system call of the corpus: strings and byte slices among the
// arguments are passed by address.
type attempt struct {
	call string
	nr   uintptr
	args []any
	path string // what the record must say, "" for nothing
	to   string
}

// truth is what came of an attempt.
type truth struct {
	Call, Path, To string
	Errno          int
	TID            int
}

func init() { payloads["corpus"] = corpus }

// corpus makes every attempt and prints what came of it.
func corpus(args []string) int {
	runtime.LockOSThread()
	out := json.NewEncoder(os.Stdout)
	for _, a := range attempts(args[0]) {
		if err := out.Encode(a.make()); err != nil {
			return 1
		}
	}
	return 0
}

func (a attempt) make() truth {
	var raw [6]uintptr
	for i, v := range a.args {
		switch v := v.(type) {
		case int:
			raw[i] = uintptr(v)
		case string:
			b, err := unix.BytePtrFromString(v)
			if err != nil {
				panic(err)
			}
			raw[i] = uintptr(unsafe.Pointer(b))
		case []byte:
			raw[i] = uintptr(unsafe.Pointer(&v[0]))
		case unsafe.Pointer:
			raw[i] = uintptr(v)
		}
	}
	_, _, errno := unix.RawSyscall6(a.nr, raw[0], raw[1], raw[2], raw[3], raw[4], raw[5])
	runtime.KeepAlive(a.args)
	return truth{Call: a.call, Path: quoted(a.path), To: quoted(a.to), Errno: int(errno), TID: unix.Gettid()}
}

// quoted survives JSON whatever its bytes.
func quoted(s string) string { return fmt.Sprintf("%q", s) }

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

const cwd = unix.AT_FDCWD

// attempts is the corpus for the folder that makeCorpusDir made.
func attempts(d string) []attempt {
	must(0, os.Chdir(d+"/own"))
	var list []attempt
	for _, part := range [][]attempt{openAttempts(d), changeAttempts(d), metaAttempts(d), lookAttempts(d),
		descriptorAttempts(d), socketAttempts(d), systemAttempts(d), nameAttempts(d)} {
		list = append(list, part...)
	}
	return append(list, archAttempts(d)...)
}

func openAttempts(d string) []attempt {
	how := make([]byte, 24)
	how[0] = unix.O_WRONLY
	ro := must(unix.Open(d+"/ro", unix.O_PATH, 0))
	return []attempt{
		{"openat", unix.SYS_OPENAT, []any{cwd, d + "/closed.txt", unix.O_RDONLY}, d + "/closed.txt", ""},
		{"openat", unix.SYS_OPENAT, []any{cwd, d + "/closed.txt", unix.O_WRONLY}, d + "/closed.txt", ""},
		{"openat", unix.SYS_OPENAT, []any{cwd, d + "/ro/f", unix.O_RDWR}, d + "/ro/f", ""},
		{"openat", unix.SYS_OPENAT, []any{cwd, d + "/ro/new", unix.O_CREAT | unix.O_WRONLY, 0o600}, d + "/ro/new", ""},
		{"openat", unix.SYS_OPENAT, []any{cwd, "../closed.txt", unix.O_RDONLY}, d + "/closed.txt", ""},
		{"openat", unix.SYS_OPENAT, []any{ro, "f", unix.O_RDWR}, d + "/ro/f", ""},
		{"openat", unix.SYS_OPENAT, []any{ro, "./d//../f", unix.O_RDWR}, d + "/ro/f", ""},
		{"openat2", unix.SYS_OPENAT2, []any{cwd, d + "/ro/f", how, len(how)}, d + "/ro/f", ""},
		{"execve", unix.SYS_EXECVE, []any{d + "/ro/f", 0, 0}, d + "/ro/f", ""},
		{"execveat", unix.SYS_EXECVEAT, []any{ro, "f", 0, 0, 0}, d + "/ro/f", ""},
	}
}

func changeAttempts(d string) []attempt {
	ro := must(unix.Open(d+"/ro", unix.O_PATH, 0))
	own := must(unix.Open(d+"/own", unix.O_PATH, 0))
	return []attempt{
		{"mkdirat", unix.SYS_MKDIRAT, []any{cwd, d + "/ro/new", 0o700}, d + "/ro/new", ""},
		{"mkdirat", unix.SYS_MKDIRAT, []any{ro, "new", 0o700}, d + "/ro/new", ""},
		{"mknodat", unix.SYS_MKNODAT, []any{ro, "new", unix.S_IFIFO | 0o600, 0}, d + "/ro/new", ""},
		{"unlinkat", unix.SYS_UNLINKAT, []any{ro, "f", 0}, d + "/ro/f", ""},
		{"unlinkat", unix.SYS_UNLINKAT, []any{ro, "d", unix.AT_REMOVEDIR}, d + "/ro/d", ""},
		{"renameat2", unix.SYS_RENAMEAT2, []any{ro, "f", ro, "g", 0}, d + "/ro/f", d + "/ro/g"},
		{"renameat2", unix.SYS_RENAMEAT2, []any{own, "mine", ro, "g", 0}, d + "/own/mine", d + "/ro/g"},
		{"renameat2", unix.SYS_RENAMEAT2, []any{cwd, "mine", cwd, "../x", 0}, d + "/own/mine", d + "/x"},
		{"linkat", unix.SYS_LINKAT, []any{cwd, "mine", ro, "g", 0}, d + "/own/mine", d + "/ro/g"},
		{"linkat", unix.SYS_LINKAT, []any{ro, "f", ro, "g", 0}, d + "/ro/f", d + "/ro/g"},
		{"symlinkat", unix.SYS_SYMLINKAT, []any{"target", ro, "new"}, d + "/ro/new", ""},
		{"truncate", unix.SYS_TRUNCATE, []any{d + "/ro/f", 0}, d + "/ro/f", ""},
	}
}

func metaAttempts(d string) []attempt {
	ro := must(unix.Open(d+"/ro", unix.O_PATH, 0))
	value := []byte("x")
	return []attempt{
		{"fchmodat", unix.SYS_FCHMODAT, []any{ro, "f", 0o777}, d + "/ro/f", ""},
		{"fchmodat2", unix.SYS_FCHMODAT2, []any{ro, "f", 0o777, 0}, d + "/ro/f", ""},
		{"fchownat", unix.SYS_FCHOWNAT, []any{ro, "f", 1, 1, 0}, d + "/ro/f", ""},
		{"fchownat", unix.SYS_FCHOWNAT, []any{cwd, "../closed.txt", 1, 1, 0}, d + "/closed.txt", ""},
		{"utimensat", unix.SYS_UTIMENSAT, []any{ro, "f", 0, 0}, d + "/ro/f", ""},
		{"setxattr", unix.SYS_SETXATTR, []any{d + "/ro/f", "user.x", value, 1, 0}, d + "/ro/f", ""},
		{"lsetxattr", unix.SYS_LSETXATTR, []any{d + "/ro/f", "user.y", value, 1, 0}, d + "/ro/f", ""},
		{"removexattr", unix.SYS_REMOVEXATTR, []any{d + "/ro/f", "user.x"}, d + "/ro/f", ""},
		{"lremovexattr", unix.SYS_LREMOVEXATTR, []any{d + "/ro/f", "user.x"}, d + "/ro/f", ""},
	}
}

func lookAttempts(d string) []attempt {
	secret := d + "/closed/secret"
	buf := make([]byte, 512)
	watch := must(unix.InotifyInit())
	return []attempt{
		{"faccessat", unix.SYS_FACCESSAT, []any{cwd, secret, 0}, secret, ""},
		{"faccessat2", unix.SYS_FACCESSAT2, []any{cwd, secret, 0, 0}, secret, ""},
		{"statx", unix.SYS_STATX, []any{cwd, secret, 0, 0, buf}, secret, ""},
		{"readlinkat", unix.SYS_READLINKAT, []any{cwd, secret, buf, len(buf)}, secret, ""},
		{"statfs", unix.SYS_STATFS, []any{secret, buf}, secret, ""},
		{"getxattr", unix.SYS_GETXATTR, []any{secret, "user.x", buf, len(buf)}, secret, ""},
		{"listxattr", unix.SYS_LISTXATTR, []any{secret, buf, len(buf)}, secret, ""},
		{"chdir", unix.SYS_CHDIR, []any{d + "/closed"}, d + "/closed", ""},
		{"name_to_handle_at", unix.SYS_NAME_TO_HANDLE_AT, []any{cwd, secret, buf, buf, 0}, secret, ""},
		{"inotify_add_watch", unix.SYS_INOTIFY_ADD_WATCH, []any{watch, secret, unix.IN_OPEN}, secret, ""},
	}
}

func descriptorAttempts(d string) []attempt {
	f := must(unix.Open(d+"/ro/f", unix.O_RDONLY, 0))
	closed := must(unix.Open(d+"/closed", unix.O_PATH, 0))
	page := must(unix.Mmap(f, 0, 4096, unix.PROT_READ, unix.MAP_SHARED))
	value, flags := []byte("x"), make([]byte, 8)
	return []attempt{
		{"fchmod", unix.SYS_FCHMOD, []any{f, 0o777}, d + "/ro/f", ""},
		{"fchown", unix.SYS_FCHOWN, []any{f, 1, 1}, d + "/ro/f", ""},
		{"fsetxattr", unix.SYS_FSETXATTR, []any{f, "user.x", value, 1, 0}, d + "/ro/f", ""},
		{"fremovexattr", unix.SYS_FREMOVEXATTR, []any{f, "user.x"}, d + "/ro/f", ""},
		{"utimensat", unix.SYS_UTIMENSAT, []any{f, 0, 0, 0}, d + "/ro/f", ""},
		{"ioctl", unix.SYS_IOCTL, []any{f, 0x40086602, flags}, d + "/ro/f", ""},
		{"mmap", unix.SYS_MMAP, []any{0, 4096, unix.PROT_WRITE, unix.MAP_SHARED, f, 0}, d + "/ro/f", ""},
		{"mprotect", unix.SYS_MPROTECT, []any{page, 4096, unix.PROT_READ | unix.PROT_WRITE}, "", ""},
		{"fchdir", unix.SYS_FCHDIR, []any{closed}, d + "/closed", ""},
	}
}

// sockaddrUnix is the address of a socket by its path.
func sockaddrUnix(path string) []byte {
	return append([]byte{unix.AF_UNIX, 0}, path+"\x00"...)
}

func sockaddrIn(port uint16, ip ...byte) []byte {
	b := make([]byte, 16)
	b[0], b[2], b[3] = unix.AF_INET, byte(port>>8), byte(port)
	copy(b[4:], ip)
	return b
}

func socketAttempts(d string) []attempt {
	stream := must(unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0))
	gram := must(unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM, 0))
	tcp := must(unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0))
	udp := must(unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0))
	shut, low := sockaddrUnix(d+"/own/shut"), sockaddrIn(923, 127, 0, 0, 1)
	bound, out := sockaddrUnix(d+"/ro/new"), sockaddrIn(9, 192, 0, 2, 1)
	return []attempt{
		{"connect", unix.SYS_CONNECT, []any{stream, shut, len(shut)}, d + "/own/shut", ""},
		{"sendto", unix.SYS_SENDTO, []any{gram, []byte("x"), 1, 0, shut, len(shut)}, d + "/own/shut", ""},
		{"bind", unix.SYS_BIND, []any{stream, bound, len(bound)}, d + "/ro/new", ""},
		{"bind", unix.SYS_BIND, []any{tcp, low, len(low)}, "", ""},
		{"connect", unix.SYS_CONNECT, []any{udp, out, len(out)}, "", ""},
		{"sendto", unix.SYS_SENDTO, []any{udp, []byte("x"), 1, 0, out, len(out)}, "", ""},
		{"setsockopt", unix.SYS_SETSOCKOPT, []any{tcp, unix.SOL_SOCKET, unix.SO_MARK, []byte{1, 0, 0, 0}, 4}, "", ""},
		{"setsockopt", unix.SYS_SETSOCKOPT, []any{tcp, unix.SOL_IP, unix.IP_OPTIONS, []byte{1, 0, 0, 0}, 4}, "", ""},
		{"socket", unix.SYS_SOCKET, []any{unix.AF_INET, unix.SOCK_RAW, 1}, "", ""},
		{"socket", unix.SYS_SOCKET, []any{unix.AF_PACKET, unix.SOCK_RAW, 0}, "", ""},
	}
}

func systemAttempts(d string) []attempt {
	one := unix.Getpid()
	buf := make([]byte, 128)
	handle := append([]byte{8}, make([]byte, 63)...)
	return []attempt{
		{"unshare", unix.SYS_UNSHARE, []any{unix.CLONE_NEWNS}, "", ""},
		{"clone", unix.SYS_CLONE, []any{unix.CLONE_NEWNS, 0, 0, 0, 0}, "", ""},
		{"mount", unix.SYS_MOUNT, []any{"none", d + "/own", "tmpfs", 0, 0}, d + "/own", ""},
		{"umount2", unix.SYS_UMOUNT2, []any{d + "/own", 0}, d + "/own", ""},
		{"pivot_root", unix.SYS_PIVOT_ROOT, []any{d, d + "/own"}, d, d + "/own"},
		{"chroot", unix.SYS_CHROOT, []any{d + "/own"}, d + "/own", ""},
		{"move_mount", unix.SYS_MOVE_MOUNT, []any{cwd, d, cwd, d + "/own", 0}, d, d + "/own"},
		{"fspick", unix.SYS_FSPICK, []any{cwd, d + "/own", 0}, d + "/own", ""},
		{"open_tree", unix.SYS_OPEN_TREE, []any{cwd, d + "/own", unix.OPEN_TREE_CLONE}, d + "/own", ""},
		{"fsopen", unix.SYS_FSOPEN, []any{"tmpfs", 0}, "", ""},
		{"open_by_handle_at", unix.SYS_OPEN_BY_HANDLE_AT, []any{cwd, handle, 0}, "", ""},
		{"ptrace", unix.SYS_PTRACE, []any{unix.PTRACE_ATTACH, one, 0, 0}, "", ""},
		{"init_module", unix.SYS_INIT_MODULE, []any{buf, len(buf), "x"}, "", ""},
		{"reboot", unix.SYS_REBOOT, []any{0xfee1dead, 672274793, 0, 0}, "", ""},
		{"swapon", unix.SYS_SWAPON, []any{d + "/ro/f", 0}, d + "/ro/f", ""},
		{"acct", unix.SYS_ACCT, []any{d + "/ro/f"}, d + "/ro/f", ""},
	}
}

// nameAttempts open names that are awkward to record.
func nameAttempts(d string) []attempt {
	long := d + "/closed" + strings.Repeat("/"+strings.Repeat("n", 200), 18)
	long += "/" + strings.Repeat("m", 4095-len(long)-1)
	var list []attempt
	for _, p := range []string{
		d + "/closed/new\nline", d + "/closed/not\xff\xfeUTF-8", d + "/closed/\x1b[31m", d + "/closed/ ", d + "/closed/日本",
		d + `/closed/back\slash"quote`, long, d + "/closed/" + strings.Repeat("x", 255),
	} {
		list = append(list, attempt{"openat", unix.SYS_OPENAT, []any{cwd, p, 0}, p, ""})
	}
	return append(list,
		attempt{"openat", unix.SYS_OPENAT, []any{cwd, "../" + strings.Repeat("./", 1000) + "closed/far", 0}, d + "/closed/far", ""},
		attempt{"openat", unix.SYS_OPENAT, []any{cwd, "/..//.." + d + "/closed/x/", 0}, d + "/closed/x", ""},
	)
}
