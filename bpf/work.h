/* SPDX-License-Identifier: GPL-2.0-only */
/* Which system calls are work upon names, and nothing else. */
#ifndef WORK_H
#define WORK_H

enum work { WORK_NONE, WORK_OPEN, WORK_MKDIR, WORK_UNLINK, WORK_RMDIR, WORK_RENAME, WORK_LINK, WORK_SYMLINK, WORK_STATX };

/* The functions have the arguments of system calls: of these numbers. */
#ifdef __TARGET_ARCH_x86
enum { NR_OPENAT = 257, NR_MKDIRAT = 258, NR_UNLINKAT = 263, NR_RENAMEAT2 = 316, NR_LINKAT = 265, NR_SYMLINKAT = 266, NR_STATX = 332 };
#else
enum { NR_OPENAT = 56, NR_MKDIRAT = 34, NR_UNLINKAT = 35, NR_RENAMEAT2 = 276, NR_LINKAT = 37, NR_SYMLINKAT = 36, NR_STATX = 291 };
#endif

static __always_inline __u8 work_of(__u16 call)
{
	switch (call) {
	case CALL_OPEN:
	case CALL_CREAT:
	case CALL_OPENAT:
	case CALL_OPENAT2:
		return WORK_OPEN;
	case CALL_MKDIR:
	case CALL_MKDIRAT:
		return WORK_MKDIR;
	case CALL_UNLINK:
		return WORK_UNLINK;
	case CALL_UNLINKAT:
		return WORK_UNLINK | WORK_RMDIR << 4;
	case CALL_RMDIR:
		return WORK_RMDIR;
	case CALL_RENAME:
	case CALL_RENAMEAT:
	case CALL_RENAMEAT2:
		return WORK_RENAME;
	case CALL_LINK:
	case CALL_LINKAT:
		return WORK_LINK;
	case CALL_SYMLINK:
	case CALL_SYMLINKAT:
		return WORK_SYMLINK;
	case CALL_STATX:
		return WORK_STATX;
	}
	return WORK_NONE;
}

#endif
