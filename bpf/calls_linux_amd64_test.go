package bpf

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"

	"github.com/cilium/ebpf/btf"
	"golang.org/x/sys/unix"
)

// numbers are amd64's, as another list has them.
var numbers = map[string]uint32{
	"open": unix.SYS_OPEN, "creat": unix.SYS_CREAT, "openat": unix.SYS_OPENAT, "openat2": unix.SYS_OPENAT2,
	"mkdir": unix.SYS_MKDIR, "mkdirat": unix.SYS_MKDIRAT, "mknod": unix.SYS_MKNOD, "mknodat": unix.SYS_MKNODAT,
	"unlink": unix.SYS_UNLINK, "unlinkat": unix.SYS_UNLINKAT, "rmdir": unix.SYS_RMDIR, "rename": unix.SYS_RENAME,
	"renameat": unix.SYS_RENAMEAT, "renameat2": unix.SYS_RENAMEAT2, "link": unix.SYS_LINK, "linkat": unix.SYS_LINKAT,
	"symlink": unix.SYS_SYMLINK, "symlinkat": unix.SYS_SYMLINKAT, "chmod": unix.SYS_CHMOD, "fchmodat": unix.SYS_FCHMODAT,
	"fchmodat2": unix.SYS_FCHMODAT2, "chown": unix.SYS_CHOWN, "lchown": unix.SYS_LCHOWN, "fchownat": unix.SYS_FCHOWNAT,
	"truncate": unix.SYS_TRUNCATE, "utime": unix.SYS_UTIME, "utimes": unix.SYS_UTIMES, "futimesat": unix.SYS_FUTIMESAT,
	"utimensat": unix.SYS_UTIMENSAT, "setxattr": unix.SYS_SETXATTR, "lsetxattr": unix.SYS_LSETXATTR,
	"removexattr": unix.SYS_REMOVEXATTR, "lremovexattr": unix.SYS_LREMOVEXATTR, "access": unix.SYS_ACCESS,
	"faccessat": unix.SYS_FACCESSAT, "faccessat2": unix.SYS_FACCESSAT2, "execve": unix.SYS_EXECVE, "execveat": unix.SYS_EXECVEAT,
	"stat": unix.SYS_STAT, "lstat": unix.SYS_LSTAT, "newfstatat": unix.SYS_NEWFSTATAT, "statx": unix.SYS_STATX,
	"readlink": unix.SYS_READLINK, "readlinkat": unix.SYS_READLINKAT, "statfs": unix.SYS_STATFS, "getxattr": unix.SYS_GETXATTR,
	"lgetxattr": unix.SYS_LGETXATTR, "listxattr": unix.SYS_LISTXATTR, "llistxattr": unix.SYS_LLISTXATTR, "chdir": unix.SYS_CHDIR,
	"name_to_handle_at": unix.SYS_NAME_TO_HANDLE_AT, "inotify_add_watch": unix.SYS_INOTIFY_ADD_WATCH,
	"fanotify_mark": unix.SYS_FANOTIFY_MARK, "fchmod": unix.SYS_FCHMOD, "fchown": unix.SYS_FCHOWN, "fsetxattr": unix.SYS_FSETXATTR,
	"fremovexattr": unix.SYS_FREMOVEXATTR, "ftruncate": unix.SYS_FTRUNCATE, "fallocate": unix.SYS_FALLOCATE,
	"ioctl": unix.SYS_IOCTL, "fcntl": unix.SYS_FCNTL, "fchdir": unix.SYS_FCHDIR, "mmap": unix.SYS_MMAP, "mprotect": unix.SYS_MPROTECT,
	"bind": unix.SYS_BIND, "connect": unix.SYS_CONNECT, "sendto": unix.SYS_SENDTO, "sendmsg": unix.SYS_SENDMSG,
	"sendmmsg": unix.SYS_SENDMMSG, "write": unix.SYS_WRITE, "writev": unix.SYS_WRITEV, "sendfile": unix.SYS_SENDFILE,
	"splice": unix.SYS_SPLICE, "setsockopt": unix.SYS_SETSOCKOPT, "listen": unix.SYS_LISTEN, "socket": unix.SYS_SOCKET,
	"socketpair": unix.SYS_SOCKETPAIR, "clone": unix.SYS_CLONE, "clone3": unix.SYS_CLONE3, "unshare": unix.SYS_UNSHARE,
	"setns": unix.SYS_SETNS, "mount": unix.SYS_MOUNT, "umount2": unix.SYS_UMOUNT2, "pivot_root": unix.SYS_PIVOT_ROOT,
	"chroot": unix.SYS_CHROOT, "ptrace": unix.SYS_PTRACE, "bpf": unix.SYS_BPF, "keyctl": unix.SYS_KEYCTL, "add_key": unix.SYS_ADD_KEY,
	"request_key": unix.SYS_REQUEST_KEY, "perf_event_open": unix.SYS_PERF_EVENT_OPEN, "userfaultfd": unix.SYS_USERFAULTFD,
	"fanotify_init": unix.SYS_FANOTIFY_INIT, "init_module": unix.SYS_INIT_MODULE, "finit_module": unix.SYS_FINIT_MODULE,
	"delete_module": unix.SYS_DELETE_MODULE, "kexec_load": unix.SYS_KEXEC_LOAD, "kexec_file_load": unix.SYS_KEXEC_FILE_LOAD,
	"reboot": unix.SYS_REBOOT, "swapon": unix.SYS_SWAPON, "swapoff": unix.SYS_SWAPOFF, "acct": unix.SYS_ACCT,
	"quotactl": unix.SYS_QUOTACTL, "quotactl_fd": unix.SYS_QUOTACTL_FD, "syslog": unix.SYS_SYSLOG, "vhangup": unix.SYS_VHANGUP,
	"iopl": unix.SYS_IOPL, "ioperm": unix.SYS_IOPERM, "kcmp": unix.SYS_KCMP, "pidfd_getfd": unix.SYS_PIDFD_GETFD,
	"process_vm_readv": unix.SYS_PROCESS_VM_READV, "process_vm_writev": unix.SYS_PROCESS_VM_WRITEV,
	"process_madvise": unix.SYS_PROCESS_MADVISE, "open_by_handle_at": unix.SYS_OPEN_BY_HANDLE_AT,
	"open_tree": unix.SYS_OPEN_TREE, "move_mount": unix.SYS_MOVE_MOUNT, "fspick": unix.SYS_FSPICK, "fsopen": unix.SYS_FSOPEN,
	"fsconfig": unix.SYS_FSCONFIG, "fsmount": unix.SYS_FSMOUNT, "mount_setattr": unix.SYS_MOUNT_SETATTR,
	"io_uring_setup": unix.SYS_IO_URING_SETUP, "io_uring_enter": unix.SYS_IO_URING_ENTER,
	"io_uring_register": unix.SYS_IO_URING_REGISTER,
	// Newer than the list.
	"setxattrat": 463, "getxattrat": 464, "listxattrat": 465, "removexattrat": 466, "open_tree_attr": 467,
	"file_getattr": 468, "file_setattr": 469,
}

func TestSystemCallsHaveTheirNumbers(t *testing.T) {
	spec := objects(t)["kernel_x86_bpfel.o"]
	var names *btf.Enum
	if err := spec.Types.TypeByName("call_id", &names); err != nil {
		t.Fatal(err)
	}
	content := spec.Variables["calls"].Value
	table := make([]KernelCall, len(content)/binary.Size(KernelCall{}))
	if err := binary.Read(bytes.NewReader(content), binary.LittleEndian, &table); err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, v := range names.Values {
		name := strings.ToLower(strings.TrimPrefix(v.Name, "CALL_"))
		if name == "none" || name == "foreign" || v.Name == "CALL_IDS" {
			continue
		}
		nr, ok := numbers[name]
		if !ok || int(nr) >= len(table) || uint64(table[nr].Id) != v.Value {
			t.Errorf("%s is not at %d", name, nr)
		}
		found++
	}
	if found != len(numbers) {
		t.Errorf("%d calls in the table, %d here", found, len(numbers))
	}
}
