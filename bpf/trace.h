/* SPDX-License-Identifier: GPL-2.0-only */
/* Refused system calls, as they return. */
#ifndef TRACE_H
#define TRACE_H

enum { EPERM = 1, EACCES = 13, EBUSY = 16, EXDEV = 18, EROFS = 30 };
enum { AT_FDCWD = -100 };
enum { O_ACCMODE = 3, O_CREAT = 0100, O_TRUNC = 01000 };

/* A mark this old is of another call: one that was refused in part. */
static const __u64 mark_ns = 1000000000;

static __always_inline int is_refusal(long ret)
{
	return ret == -EACCES || ret == -EPERM || ret == -EROFS || ret == -EXDEV || ret == -EBUSY;
}

/* compat: the call came by another architecture's door, with its numbers. */
static __always_inline int compat(struct task_struct *t, long nr)
{
#ifdef __TARGET_ARCH_x86
	return READ(t, thread_info.status) & 2 /* TS_COMPAT */ || nr & 0x40000000 /* x32 */;
#else
	return READ(t, thread_info.flags) >> 22 & 1; /* TIF_32BIT */
#endif
}

static __always_inline long read_regs(struct pt_regs *regs, __u64 *args)
{
#ifdef __TARGET_ARCH_x86
	args[0] = regs->di;
	args[1] = regs->si;
	args[2] = regs->dx;
	args[3] = regs->r10;
	args[4] = regs->r8;
	args[5] = regs->r9;
	return regs->orig_ax;
#else
	args[0] = regs->orig_x0; /* regs[0] has the result by now */
	args[1] = regs->regs[1];
	args[2] = regs->regs[2];
	args[3] = regs->regs[3];
	args[4] = regs->regs[4];
	args[5] = regs->regs[5];
	return regs->syscallno;
#endif
}

/* marked reports, once, that a program refused this call and recorded that. Cgroup
 * programs, which do not know which call it is, make it EPERM. */
static __always_inline int marked(__u64 now, __u32 nr, long ret)
{
	__u64 thread = thread_key();
	__u64 *when = ret == -EPERM || ret == -EACCES ? bpf_map_lookup_elem(&marks, &thread) : 0;

	if (!when)
		return 0;
	__u64 age = now - (*when & ~1023ULL), of = *when & 1023;
	bpf_map_delete_elem(&marks, &thread);
	return age < mark_ns && (of == MARK_ANY ? ret == -EPERM : of == nr);
}

/* arg is one of a call's arguments; NO is none. */
static __always_inline __u64 arg(const struct denial *d, __u8 i)
{
	return i < 6 ? d->args[i] : 0;
}

/* file_of finds an open file by its descriptor. */
static __noinline struct file *file_of(__u32 fd)
{
	struct fdtable *table = READ(READ(current_task(), files), fdt);
	struct file *f = 0;

	if (fd < READ(table, max_fds))
		bpf_probe_read_kernel(&f, sizeof(f), READ(table, fd) + fd);
	return f;
}

/* put_name appends a string of the process's, or of the kernel's; what it is
 * relative to is hashed with it. */
static __noinline void put_name(struct scratch *s, int part, const void *from, __u64 dir, int kernel)
{
	__u32 at = s->used;

	if (at > DATA_MAX - PATH_MAX || part < 0 || part >= PARTS)
		return;
	/* A null pointer means the descriptor itself, to utimensat(2) and others. */
	long n = 0;
	if (from)
		n = kernel ? bpf_probe_read_kernel_str(s->data + at, PATH_MAX, from)
			   : bpf_probe_read_user_str(s->data + at, PATH_MAX, from);
	if (n < 0 || n > PATH_MAX) {
		s->d.state[part] = PART_UNREADABLE;
		n = 0;
	} else {
		s->d.state[part] = PART_WHOLE;
	}
	s->d.len[part] = n;
	s->used = at + n;
	hash_data(SLOT(s), at, n);
	s->d.key.object = mix(s->d.key.object, dir);
}

/* folder gives what a relative name begins at: the inode's number will do to
 * tell folders apart. */
static __noinline __u64 folder(__u8 has, __s32 fd)
{
	struct dentry *d;

	if (has == NO || fd == AT_FDCWD) {
		struct fs_struct *fs = READ(current_task(), fs);
		d = READ(fs, pwd.dentry);
	} else {
		d = READ(file_of(fd), f_path.dentry);
	}
	return READ(READ(d, d_inode), i_ino);
}

static __always_inline void put_dir(struct scratch *s, int part, __s32 fd)
{
	struct file *f = file_of(fd);

	if (f)
		put_walk(s, SLOT(s), part, __builtin_preserve_access_index(&f->f_path));
}

/* relative: a name that needs a folder; an absent one is the folder itself. */
static __always_inline int relative(struct scratch *s, int part, __u32 at)
{
	return !s->d.len[part] || at >= DATA_MAX || s->data[at] != '/';
}

#endif
