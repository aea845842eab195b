/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The system calls whose refusal is recorded: what each attempts, and which of
 * its arguments say upon what. Numbers are x86-64's and arm64's; from 424 on
 * they are the same everywhere.
 */
#ifndef CALLS_H
#define CALLS_H

enum shape {
	SHAPE_NONE,
	SHAPE_PATH,   /* a: path, d: folder's descriptor; a2, d2: a second one */
	SHAPE_FD,     /* d: descriptor */
	SHAPE_ADDR,   /* of a socket; a: address, d: its length */
	SHAPE_MSG,    /* of a socket; a: message, or vector of them */
	SHAPE_IO,     /* recorded only if descriptor d is a socket */
	SHAPE_SOCKET, /* family, type, protocol */
	SHAPE_PLAIN,  /* no object */
};

enum { NO = 7, ABSENT = 511, CALL_SLOTS = 512 };

struct call {
	__u16 id;
	__u8 op, shape;
	__u8 a, d, a2, d2;
	__u8 refused; /* seccomp refuses it, too, and then has its own record */
};

/* New ones come last: see numbers_linux_test.go.
 * CALL(name, x86-64, arm64, operation, shape, a, d, a2, d2, refused by seccomp) */
#define CALLS                                                                   \
	CALL(OPEN, 2, ABSENT, FILE_READ, PATH, 0, NO, NO, NO, 0)                \
	CALL(CREAT, 85, ABSENT, FILE_CREATE, PATH, 0, NO, NO, NO, 0)            \
	CALL(OPENAT, 257, 56, FILE_READ, PATH, 1, 0, NO, NO, 0)                 \
	CALL(OPENAT2, 437, 437, FILE_READ, PATH, 1, 0, NO, NO, 0)               \
	CALL(MKDIR, 83, ABSENT, FILE_CREATE, PATH, 0, NO, NO, NO, 0)            \
	CALL(MKDIRAT, 258, 34, FILE_CREATE, PATH, 1, 0, NO, NO, 0)              \
	CALL(MKNOD, 133, ABSENT, FILE_CREATE, PATH, 0, NO, NO, NO, 0)           \
	CALL(MKNODAT, 259, 33, FILE_CREATE, PATH, 1, 0, NO, NO, 0)              \
	CALL(UNLINK, 87, ABSENT, FILE_DELETE, PATH, 0, NO, NO, NO, 0)           \
	CALL(UNLINKAT, 263, 35, FILE_DELETE, PATH, 1, 0, NO, NO, 0)             \
	CALL(RMDIR, 84, ABSENT, FILE_DELETE, PATH, 0, NO, NO, NO, 0)            \
	CALL(RENAME, 82, ABSENT, FILE_RENAME, PATH, 0, NO, 1, NO, 0)            \
	CALL(RENAMEAT, 264, 38, FILE_RENAME, PATH, 1, 0, 3, 2, 0)               \
	CALL(RENAMEAT2, 316, 276, FILE_RENAME, PATH, 1, 0, 3, 2, 0)             \
	CALL(LINK, 86, ABSENT, FILE_LINK, PATH, 0, NO, 1, NO, 0)                \
	CALL(LINKAT, 265, 37, FILE_LINK, PATH, 1, 0, 3, 2, 0)                   \
	CALL(SYMLINK, 88, ABSENT, FILE_CREATE, PATH, 1, NO, NO, NO, 0)          \
	CALL(SYMLINKAT, 266, 36, FILE_CREATE, PATH, 2, 1, NO, NO, 0)            \
	CALL(CHMOD, 90, ABSENT, FILE_META, PATH, 0, NO, NO, NO, 0)              \
	CALL(FCHMODAT, 268, 53, FILE_META, PATH, 1, 0, NO, NO, 0)               \
	CALL(FCHMODAT2, 452, 452, FILE_META, PATH, 1, 0, NO, NO, 0)             \
	CALL(CHOWN, 92, ABSENT, FILE_META, PATH, 0, NO, NO, NO, 0)              \
	CALL(LCHOWN, 94, ABSENT, FILE_META, PATH, 0, NO, NO, NO, 0)             \
	CALL(FCHOWNAT, 260, 54, FILE_META, PATH, 1, 0, NO, NO, 0)               \
	CALL(TRUNCATE, 76, 45, FILE_WRITE, PATH, 0, NO, NO, NO, 0)              \
	CALL(UTIME, 132, ABSENT, FILE_META, PATH, 0, NO, NO, NO, 0)             \
	CALL(UTIMES, 235, ABSENT, FILE_META, PATH, 0, NO, NO, NO, 0)            \
	CALL(FUTIMESAT, 261, ABSENT, FILE_META, PATH, 1, 0, NO, NO, 0)          \
	CALL(UTIMENSAT, 280, 88, FILE_META, PATH, 1, 0, NO, NO, 0)              \
	CALL(SETXATTR, 188, 5, FILE_META, PATH, 0, NO, NO, NO, 0)               \
	CALL(LSETXATTR, 189, 6, FILE_META, PATH, 0, NO, NO, NO, 0)              \
	CALL(REMOVEXATTR, 197, 14, FILE_META, PATH, 0, NO, NO, NO, 0)           \
	CALL(LREMOVEXATTR, 198, 15, FILE_META, PATH, 0, NO, NO, NO, 0)          \
	CALL(SETXATTRAT, 463, 463, FILE_META, PATH, 1, 0, NO, NO, 0)            \
	CALL(REMOVEXATTRAT, 466, 466, FILE_META, PATH, 1, 0, NO, NO, 0)         \
	CALL(FILE_SETATTR, 469, 469, FILE_META, PATH, 1, 0, NO, NO, 0)          \
	CALL(ACCESS, 21, ABSENT, FILE_READ, PATH, 0, NO, NO, NO, 0)             \
	CALL(FACCESSAT, 269, 48, FILE_READ, PATH, 1, 0, NO, NO, 0)              \
	CALL(FACCESSAT2, 439, 439, FILE_READ, PATH, 1, 0, NO, NO, 0)            \
	CALL(EXECVE, 59, 221, FILE_EXEC, PATH, 0, NO, NO, NO, 0)                \
	CALL(EXECVEAT, 322, 281, FILE_EXEC, PATH, 1, 0, NO, NO, 0)              \
	CALL(STAT, 4, ABSENT, FILE_READ, PATH, 0, NO, NO, NO, 0)                \
	CALL(LSTAT, 6, ABSENT, FILE_READ, PATH, 0, NO, NO, NO, 0)               \
	CALL(NEWFSTATAT, 262, 79, FILE_READ, PATH, 1, 0, NO, NO, 0)             \
	CALL(STATX, 332, 291, FILE_READ, PATH, 1, 0, NO, NO, 0)                 \
	CALL(READLINK, 89, ABSENT, FILE_READ, PATH, 0, NO, NO, NO, 0)           \
	CALL(READLINKAT, 267, 78, FILE_READ, PATH, 1, 0, NO, NO, 0)             \
	CALL(STATFS, 137, 43, FILE_READ, PATH, 0, NO, NO, NO, 0)                \
	CALL(GETXATTR, 191, 8, FILE_READ, PATH, 0, NO, NO, NO, 0)               \
	CALL(LGETXATTR, 192, 9, FILE_READ, PATH, 0, NO, NO, NO, 0)              \
	CALL(LISTXATTR, 194, 11, FILE_READ, PATH, 0, NO, NO, NO, 0)             \
	CALL(LLISTXATTR, 195, 12, FILE_READ, PATH, 0, NO, NO, NO, 0)            \
	CALL(GETXATTRAT, 464, 464, FILE_READ, PATH, 1, 0, NO, NO, 0)            \
	CALL(LISTXATTRAT, 465, 465, FILE_READ, PATH, 1, 0, NO, NO, 0)           \
	CALL(FILE_GETATTR, 468, 468, FILE_READ, PATH, 1, 0, NO, NO, 0)          \
	CALL(CHDIR, 80, 49, FILE_READ, PATH, 0, NO, NO, NO, 0)                  \
	CALL(NAME_TO_HANDLE_AT, 303, 264, FILE_READ, PATH, 1, 0, NO, NO, 0)     \
	CALL(INOTIFY_ADD_WATCH, 254, 27, FILE_READ, PATH, 1, NO, NO, NO, 0)     \
	CALL(FANOTIFY_MARK, 301, 263, FILE_READ, PATH, 4, 3, NO, NO, 0)         \
	CALL(FCHMOD, 91, 52, FILE_META, FD, NO, 0, NO, NO, 0)                   \
	CALL(FCHOWN, 93, 55, FILE_META, FD, NO, 0, NO, NO, 0)                   \
	CALL(FSETXATTR, 190, 7, FILE_META, FD, NO, 0, NO, NO, 0)                \
	CALL(FREMOVEXATTR, 199, 16, FILE_META, FD, NO, 0, NO, NO, 0)            \
	CALL(FTRUNCATE, 77, 46, FILE_WRITE, FD, NO, 0, NO, NO, 0)               \
	CALL(FALLOCATE, 285, 47, FILE_WRITE, FD, NO, 0, NO, NO, 0)              \
	CALL(IOCTL, 16, 29, FILE_META, FD, NO, 0, NO, NO, 0)                    \
	CALL(FCNTL, 72, 25, SYS_REFUSED, FD, NO, 0, NO, NO, 1)                  \
	CALL(FCHDIR, 81, 50, FILE_READ, FD, NO, 0, NO, NO, 0)                   \
	CALL(MMAP, 9, 222, FILE_READ, FD, NO, 4, NO, NO, 0)                     \
	CALL(MPROTECT, 10, 226, FILE_WRITE, PLAIN, NO, NO, NO, NO, 0)           \
	CALL(BIND, 49, 200, NET_BIND, ADDR, 1, 2, NO, NO, 0)                    \
	CALL(CONNECT, 42, 203, NET_CONNECT, ADDR, 1, 2, NO, NO, 0)              \
	CALL(SENDTO, 44, 206, NET_UDP, ADDR, 4, 5, NO, NO, 0)                   \
	CALL(SENDMSG, 46, 211, NET_UDP, MSG, 1, NO, NO, NO, 0)                  \
	CALL(SENDMMSG, 307, 269, NET_UDP, MSG, 1, NO, NO, NO, 0)                \
	CALL(WRITE, 1, 64, NET_UDP, IO, NO, 0, NO, NO, 0)                       \
	CALL(WRITEV, 20, 66, NET_UDP, IO, NO, 0, NO, NO, 0)                     \
	CALL(SENDFILE, 40, 71, NET_UDP, IO, NO, 0, NO, NO, 0)                   \
	CALL(SPLICE, 275, 76, NET_UDP, IO, NO, 2, NO, NO, 0)                    \
	CALL(SETSOCKOPT, 54, 208, NET_SOCKET, IO, NO, 0, NO, NO, 0)             \
	CALL(LISTEN, 50, 201, NET_BIND, IO, NO, 0, NO, NO, 0)                   \
	CALL(SOCKET, 41, 198, NET_SOCKET, SOCKET, NO, NO, NO, NO, 1)            \
	CALL(SOCKETPAIR, 53, 199, NET_SOCKET, SOCKET, NO, NO, NO, NO, 1)        \
	CALL(CLONE, 56, 220, NS_CREATE, PLAIN, NO, NO, NO, NO, 1)               \
	CALL(CLONE3, 435, 435, NS_CREATE, PLAIN, NO, NO, NO, NO, 1)             \
	CALL(UNSHARE, 272, 97, NS_CREATE, PLAIN, NO, NO, NO, NO, 1)             \
	CALL(SETNS, 308, 268, NS_CREATE, FD, NO, 0, NO, NO, 1)                  \
	CALL(MOUNT, 165, 40, SYS_REFUSED, PATH, 1, NO, NO, NO, 1)               \
	CALL(UMOUNT2, 166, 39, SYS_REFUSED, PATH, 0, NO, NO, NO, 1)             \
	CALL(PIVOT_ROOT, 155, 41, SYS_REFUSED, PATH, 0, NO, 1, NO, 1)           \
	CALL(CHROOT, 161, 51, SYS_REFUSED, PATH, 0, NO, NO, NO, 1)              \
	CALL(OPEN_TREE, 428, 428, SYS_REFUSED, PATH, 1, 0, NO, NO, 1)           \
	CALL(OPEN_TREE_ATTR, 467, 467, SYS_REFUSED, PATH, 1, 0, NO, NO, 1)      \
	CALL(MOVE_MOUNT, 429, 429, SYS_REFUSED, PATH, 1, 0, 3, 2, 1)            \
	CALL(FSPICK, 433, 433, SYS_REFUSED, PATH, 1, 0, NO, NO, 1)              \
	CALL(MOUNT_SETATTR, 442, 442, SYS_REFUSED, PATH, 1, 0, NO, NO, 1)       \
	CALL(FSOPEN, 430, 430, SYS_REFUSED, PLAIN, NO, NO, NO, NO, 1)           \
	CALL(FSCONFIG, 431, 431, SYS_REFUSED, PLAIN, NO, NO, NO, NO, 1)         \
	CALL(FSMOUNT, 432, 432, SYS_REFUSED, PLAIN, NO, NO, NO, NO, 1)          \
	CALL(OPEN_BY_HANDLE_AT, 304, 265, SYS_REFUSED, FD, NO, 0, NO, NO, 1)    \
	CALL(IO_URING_SETUP, 425, 425, SYS_REFUSED, PLAIN, NO, NO, NO, NO, 1)   \
	CALL(IO_URING_ENTER, 426, 426, SYS_REFUSED, PLAIN, NO, NO, NO, NO, 1)   \
	CALL(IO_URING_REGISTER, 427, 427, SYS_REFUSED, PLAIN, NO, NO, NO, NO, 1) \
	CALL(PTRACE, 101, 117, SYS_REFUSED, PLAIN, NO, NO, NO, NO, 1)           \
	CALL(PROCESS_VM_READV, 310, 270, SYS_REFUSED, PLAIN, NO, NO, NO, NO, 1) \
	CALL(PROCESS_VM_WRITEV, 311, 271, SYS_REFUSED, PLAIN, NO, NO, NO, NO, 1) \
	CALL(PROCESS_MADVISE, 440, 440, SYS_REFUSED, PLAIN, NO, NO, NO, NO, 1)  \
	CALL(KCMP, 312, 272, SYS_REFUSED, PLAIN, NO, NO, NO, NO, 1)             \
	CALL(PIDFD_GETFD, 438, 438, SYS_REFUSED, PLAIN, NO, NO, NO, NO, 1)      \
	CALL(ADD_KEY, 248, 217, SYS_REFUSED, PLAIN, NO, NO, NO, NO, 1)          \
	CALL(REQUEST_KEY, 249, 218, SYS_REFUSED, PLAIN, NO, NO, NO, NO, 1)      \
	CALL(KEYCTL, 250, 219, SYS_REFUSED, PLAIN, NO, NO, NO, NO, 1)           \
	CALL(BPF, 321, 280, SYS_REFUSED, PLAIN, NO, NO, NO, NO, 1)              \
	CALL(PERF_EVENT_OPEN, 298, 241, SYS_REFUSED, PLAIN, NO, NO, NO, NO, 1)  \
	CALL(USERFAULTFD, 323, 282, SYS_REFUSED, PLAIN, NO, NO, NO, NO, 1)      \
	CALL(FANOTIFY_INIT, 300, 262, SYS_REFUSED, PLAIN, NO, NO, NO, NO, 0)    \
	CALL(INIT_MODULE, 175, 105, SYS_REFUSED, PLAIN, NO, NO, NO, NO, 1)      \
	CALL(FINIT_MODULE, 313, 273, SYS_REFUSED, FD, NO, 0, NO, NO, 1)         \
	CALL(DELETE_MODULE, 176, 106, SYS_REFUSED, PLAIN, NO, NO, NO, NO, 1)    \
	CALL(KEXEC_LOAD, 246, 104, SYS_REFUSED, PLAIN, NO, NO, NO, NO, 1)       \
	CALL(KEXEC_FILE_LOAD, 320, 294, SYS_REFUSED, FD, NO, 0, NO, NO, 1)      \
	CALL(REBOOT, 169, 142, SYS_REFUSED, PLAIN, NO, NO, NO, NO, 1)           \
	CALL(SWAPON, 167, 224, SYS_REFUSED, PATH, 0, NO, NO, NO, 1)             \
	CALL(SWAPOFF, 168, 225, SYS_REFUSED, PATH, 0, NO, NO, NO, 1)            \
	CALL(ACCT, 163, 89, SYS_REFUSED, PATH, 0, NO, NO, NO, 1)                \
	CALL(QUOTACTL, 179, 60, SYS_REFUSED, PATH, 1, NO, NO, NO, 1)            \
	CALL(QUOTACTL_FD, 443, 443, SYS_REFUSED, FD, NO, 0, NO, NO, 1)          \
	CALL(SYSLOG, 103, 116, SYS_REFUSED, PLAIN, NO, NO, NO, NO, 1)           \
	CALL(VHANGUP, 153, 58, SYS_REFUSED, PLAIN, NO, NO, NO, NO, 1)           \
	CALL(IOPL, 172, ABSENT, SYS_REFUSED, PLAIN, NO, NO, NO, NO, 1)          \
	CALL(IOPERM, 173, ABSENT, SYS_REFUSED, PLAIN, NO, NO, NO, NO, 1)

/* Their names, from which the loader has its own. */
#define CALL(name, ...) CALL_##name,
enum call_id { CALL_NONE, CALL_FOREIGN, CALLS CALL_IDS };
#undef CALL

#ifdef __TARGET_ARCH_x86
#define CALL_NR(x86, arm64) x86
#else
#define CALL_NR(x86, arm64) arm64
#endif

/* Calls that an architecture lacks share a slot that nothing looks at. */
#pragma clang diagnostic push
#pragma clang diagnostic ignored "-Winitializer-overrides"
#define CALL(name, x86, arm64, op, shape, a, d, a2, d2, refused) \
	[CALL_NR(x86, arm64)] = {CALL_##name, OP_##op, SHAPE_##shape, a, d, a2, d2, refused},
const volatile struct call calls[CALL_SLOTS] = {CALLS};
#undef CALL
#pragma clang diagnostic pop

#endif
