/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the programs and the loader share: enums, map keys and values, records
 * of the ring buffer. Nothing is left to padding: every byte has a field, since
 * keys are compared and records leave the kernel. The Go types are made from
 * these. A change to a map's layout, or to the number of something that a record
 * names, needs another ABI: programs outlive the loader that attached them.
 */
#ifndef EVENT_H
#define EVENT_H

enum abi { ABI = 2 };

/* What was attempted. OPS bounds the arrays of counters. */
enum op {
	OP_NONE,
	OP_NET_CONNECT,
	OP_NET_UDP,
	OP_NET_ICMP,
	OP_NET_BIND,
	OP_NET_RAW,
	OP_NET_SOCKET,
	OP_UNIX_CONNECT,
	OP_FILE_READ,
	OP_FILE_WRITE,
	OP_FILE_CREATE,
	OP_FILE_DELETE,
	OP_FILE_RENAME,
	OP_FILE_LINK,
	OP_FILE_META,
	OP_FILE_EXEC,
	OP_NS_CREATE,
	OP_SYS_REFUSED,
	OPS,
};

/* Which program made a record. */
enum hook {
	HOOK_NONE,
	HOOK_EXIT, /* tp_btf/sys_exit */
	HOOK_SOCKET,
	HOOK_CONNECT,
	HOOK_SENDMSG,
	HOOK_SETSOCKOPT,
	HOOK_UNIX,
	HOOK_LSM, /* those from here on are LSM's, to HOOK_LSM_PTRACE */
	HOOK_LSM_SOCKET = HOOK_LSM,
	HOOK_LSM_CONNECT,
	HOOK_LSM_SENDMSG,
	HOOK_LSM_LISTEN,
	HOOK_LSM_UNIX_STREAM,
	HOOK_LSM_UNIX_SEND,
	HOOK_LSM_RECEIVE,
	HOOK_LSM_USERNS,
	HOOK_LSM_PTRACE,
	HOOK_CALL = 24, /* fexit of a system call */
	HOOK_NAME,	/* of what a system call has the kernel do with a name */
	HOOK_RING,	/* the same, for io_uring */
	HOOK_LSM_FILE = 32, /* of files, LSM's */
	HOOK_LSM_OPEN = HOOK_LSM_FILE,
	HOOK_LSM_MKNOD,
	HOOK_LSM_MKDIR,
	HOOK_LSM_SYMLINK,
	HOOK_LSM_LINK,
	HOOK_LSM_RENAME,
	HOOK_LSM_UNLINK,
	HOOK_LSM_RMDIR,
	HOOK_LSM_TRUNCATE,
	HOOK_LSM_CHMOD,
};

enum kind {
	KIND_NONE,
	KIND_DENIAL,
	KIND_GONE, /* a process ended or became another program: struct gone */
};

/* How much of a part of a record there is. */
enum part_state {
	PART_ABSENT,
	PART_WHOLE,
	PART_CUT,	 /* the end nearest to the root is missing */
	PART_OUTSIDE,	 /* does not lead to the process's root */
	PART_UNREADABLE, /* the process's memory could not be read */
};

/* The parts of a denial, in the order of its data. A name is the string that
 * the process gave, with its NUL. The others are names from the leaf to the
 * root, a NUL after each. */
enum part {
	PART_NAME,
	PART_NAME2,
	PART_CWD,
	PART_DIR,
	PART_DIR2,
	PARTS,
};

/* Counters, one a CPU. The first OPS of SEEN and LOST are by operation. */
enum counter {
	COUNT_SEEN = 0,		/* denials, exactly */
	COUNT_RING_FULL = 32,	/* of them, records that found no room */
	COUNT_PROC_FULL = 64,	/* processes that found no room */
	COUNT_UNREGISTERED,	/* refusals in a cgroup that is no sandbox */
	COUNT_GONE_LOST,	/* ends of processes that found no room */
	COUNT_TABLE_FULL,	/* tallies that could not be kept */
	COUNTERS,
};

enum sandbox_flag {
	SANDBOX_RECORD = 1,	/* denials of system calls are recorded */
	SANDBOX_NO_REFUSED = 2, /* but not those that seccomp refuses: they have a record */
	SANDBOX_ANY_UNIX = 4,	/* every unix socket may be reached */
	SANDBOX_STARTED = 8,	/* what runs may be its command: LSM programs refuse */
	SANDBOX_NESTED = 16,	/* user namespaces may be made */
};

/* What sockets a sandbox may make. */
enum socket_bit {
	SOCKET_TCP = 1,
	SOCKET_UDP = 2,
	SOCKET_PING = 4,
	SOCKET_MPTCP = 8,
	SOCKETS_ALL = 15,
};

/* Limits of what is kept of a process. */
enum { ARGV_MAX = 2048, EXE_MAX = 1024, CWD_MAX = 512, DATA_MAX = 20480, SUN_PATH = 108 };

struct sandbox {
	__u32 flags;
	__u32 sockets;
};

/* A destination, or a socket's three numbers. IPv4 is mapped into IPv6. */
struct addr {
	__u16 family;
	__u16 type;
	__u16 protocol;
	__u16 port;
	__u8 ip[16];
};

/* Who tried, as the kernel knows it at that moment. */
struct who {
	__u64 proc; /* key into procs; 0: not known there */
	__u64 start; /* of the process, nanoseconds since boot */
	__u64 exe_ino;
	__u32 exe_dev; /* in the kernel's form: 12 bits major, 20 bits minor */
	__u32 tgid;
	__u32 tid;
	__u32 uid;
	__u32 loginuid;
	__u32 reserved;
	__u8 comm[16]; /* of the thread group's leader */
};

/* What equal denials have in common. */
struct tally_key {
	__u64 sandbox;
	__u64 proc;
	__u64 object; /* hash */
	__u16 call;
	__s16 err;
	__u8 op;
	__u8 hook;
	__u16 reserved;
};

struct tally {
	__u64 first;
	__u64 last;
	__u64 count;
	__u64 told; /* a record is in the ring buffer, or was */
};

struct denial {
	__u8 kind;
	__u8 state[5];
	__u16 compat; /* the call's number belongs to another architecture */
	__u16 len[5];
	__u16 nr;
	__u32 reserved;
	__u64 time;
	__u64 first;
	__u64 count;
	struct tally_key key;
	struct who who;
	struct addr to;
	__u64 args[6];
};

struct gone {
	__u8 kind;
	__u8 reserved[7];
	__u64 proc;
	__u64 time;
};

/* A process from one fork or exec to the next. */
struct proc {
	__u64 parent; /* the same of whoever forked it; 0: not known */
	__u64 before; /* the same before its last exec; 0: none */
	__u64 sandbox;
	__u64 start;
	__u64 exe_ino;
	__u64 ended;
	__u32 exe_dev;
	__u32 tgid;
	__u32 uid;
	__u32 loginuid;
	__u32 argv_len; /* of the whole, which can be more than is kept */
	__u16 exe_len;
	__u16 cwd_len;
	__u8 exe_state;
	__u8 cwd_state;
	__u8 reserved[6];
	__u8 comm[16];
	__u8 argv[ARGV_MAX];
	__u8 exe[EXE_MAX];
	__u8 cwd[CWD_MAX];
};

/* A connection, or a datagram's two ends, seen from inside. */
struct conn_key {
	__u64 sandbox;
	__u16 protocol;
	__u16 sport;
	__u16 dport;
	__u16 reserved;
	__u8 saddr[16];
	__u8 daddr[16];
};

struct conn {
	__u64 proc;
	__u64 start;
	__u64 time;
	__u32 tgid;
	__u32 uid;
};

/* Unix socket names that a sandbox may connect to: longest prefix first. */
struct unix_key {
	__u32 bits;
	__u8 sandbox[8];
	__u8 path[SUN_PATH];
};

#endif
