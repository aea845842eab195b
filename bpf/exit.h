/* SPDX-License-Identifier: GPL-2.0-only */
/* From a refused system call to its record. */
#ifndef EXIT_H
#define EXIT_H

enum { FS_IOC_SETFLAGS = 0x40086602, FS_IOC_FSSETXATTR = 0x401c5820 };
enum { TIOCSTI = 0x5412, TIOCLINUX = 0x541c, TIOCCONS = 0x541d, TIOCSETD = 0x5423 };
enum { F_SETLEASE = 1024, F_SETDELEG = 1040 };
enum { MAP_ANONYMOUS = 0x20, MAP_SHARED = 1, PROT_WRITE = 2, PROT_EXEC = 4 };

static __always_inline __u8 op_of_open(__u64 flags)
{
	if (flags & O_CREAT)
		return OP_FILE_CREATE;
	return flags & (O_ACCMODE | O_TRUNC) ? OP_FILE_WRITE : OP_FILE_READ;
}

/* refine sets the operation where it depends on the arguments. OP_NONE: what
 * failed was no denial. */
static __noinline __u8 refine(struct denial *d, __u8 op)
{
	__u64 how = 0;

	/* A mount holds a name in place. Other calls say EBUSY of many things. */
	if (d->key.err == -EBUSY && op != OP_FILE_DELETE && op != OP_FILE_RENAME)
		return OP_NONE;
	switch (d->key.call) {
	case CALL_OPEN:
		return op_of_open(d->args[1]);
	case CALL_OPENAT:
		return op_of_open(d->args[2]);
	case CALL_OPENAT2:
		bpf_probe_read_user(&how, sizeof(how), (void *)d->args[2]);
		d->args[2] = how;
		/* EXDEV comes of the process's own RESOLVE_ flags here. */
		return d->key.err == -EXDEV ? OP_NONE : op_of_open(how);
	case CALL_IOCTL:
		d->args[1] = (__u32)d->args[1];
		if (d->args[1] == FS_IOC_SETFLAGS || d->args[1] == FS_IOC_FSSETXATTR)
			return op;
		return d->args[1] == TIOCSTI || d->args[1] == TIOCLINUX || d->args[1] == TIOCCONS ||
				       d->args[1] == TIOCSETD
			       ? OP_SYS_REFUSED
			       : OP_NONE;
	case CALL_FCNTL:
		return d->args[1] == F_SETLEASE || d->args[1] == F_SETDELEG ? op : OP_NONE;
	case CALL_MMAP:
		if (d->args[3] & MAP_ANONYMOUS)
			return OP_NONE;
		if (d->args[2] & PROT_EXEC)
			return OP_FILE_EXEC;
		return d->args[2] & PROT_WRITE && d->args[3] & MAP_SHARED ? OP_FILE_WRITE : OP_FILE_READ;
	case CALL_MPROTECT:
		return d->args[2] & PROT_EXEC ? OP_FILE_EXEC : op;
	}
	return op;
}

static __noinline int collect_file(struct scratch *s, __s32 fd)
{
	struct file *f = file_of(fd);

	s->d.key.object = mix((__u64)f, READ(READ(f, f_inode), i_ino));
	return 1;
}

/* collect reads what tells this denial from others; 0 if it is none. */
static __always_inline int collect(struct scratch *s, const volatile struct call *c)
{
	struct denial *d = &s->d;

	d->key.op = refine(d, c->op);
	switch (c->shape) {
	case SHAPE_PATH:
		put_name(s, PART_NAME, (void *)arg(d, c->a), folder(c->d, arg(d, c->d)), 0);
		if (c->a2 != NO)
			put_name(s, PART_NAME2, (void *)arg(d, c->a2), folder(c->d2, arg(d, c->d2)), 0);
		break;
	case SHAPE_FD:
		collect_file(s, arg(d, c->d));
		break;
	case SHAPE_ADDR:
	case SHAPE_MSG:
	case SHAPE_IO:
		return collect_socket(s, c->shape, c->a, c->d);
	case SHAPE_SOCKET:
		d->to.family = d->args[0];
		d->to.type = d->args[1] & 15; /* above are flags */
		d->to.protocol = d->args[2];
		if (d->to.type == SOCK_RAW || d->to.family == AF_PACKET)
			d->key.op = OP_NET_RAW;
		d->key.object = hash_addr(&d->to);
		break;
	default:
		d->key.object = mix(mix(0, d->args[0]), d->args[1]);
	}
	return d->key.op != OP_NONE;
}

/* folders appends what makes names absolute. */
static __always_inline void folders(struct scratch *s, const volatile struct call *c)
{
	struct fs_struct *fs = READ(current_task(), fs);
	struct denial *d = &s->d;

	put_walk(s, SLOT(s), PART_CWD, __builtin_preserve_access_index(&fs->pwd));
	if (c->shape == SHAPE_FD)
		put_dir(s, PART_DIR, arg(d, c->d));
	if (c->shape != SHAPE_PATH)
		return;
	if (c->d != NO && (__s32)arg(d, c->d) != AT_FDCWD && relative(s, PART_NAME, 0))
		put_dir(s, PART_DIR, arg(d, c->d));
	if (c->d2 != NO && (__s32)arg(d, c->d2) != AT_FDCWD && relative(s, PART_NAME2, d->len[PART_NAME]))
		put_dir(s, PART_DIR2, arg(d, c->d2));
}

/* start clears the record: what the scratch had is of another call. */
static __always_inline void start(struct scratch *s, __u64 sandbox, long ret, __u8 hook)
{
	__builtin_memset(&s->d, 0, sizeof(s->d));
	s->used = 0;
	s->d.kind = KIND_DENIAL;
	s->d.time = bpf_ktime_get_boot_ns();
	s->d.key.sandbox = sandbox;
	s->d.key.err = ret;
	s->d.key.hook = hook;
}

static __noinline int finish(struct scratch *s, __u32 nr)
{
	struct denial *d = &s->d;

	fill_who(&d->who);
	d->key.proc = who_key(&d->who);
	struct tally *t = add_up(d);
	if (t && t->told)
		return 0;
	if (nr < CALL_SLOTS)
		folders(s, &calls[nr]);
	__u32 n = s->used;
	BOUND(n, DATA_MAX);
	told(d, t, !bpf_ringbuf_output(&events, &s->d, sizeof(struct denial) + n, tell_flags()));
	return 0;
}

/* by_other_door records a call of another architecture's: its numbers are unknown. */
static __always_inline int by_other_door(struct scratch *s, long nr)
{
	s->d.compat = 1;
	s->d.key.call = CALL_FOREIGN;
	s->d.key.op = OP_SYS_REFUSED;
	s->d.key.object = nr;
	return finish(s, CALL_SLOTS);
}

/* recorded finds the sandbox of whoever is running, if what it is refused is
 * recorded. */
static __always_inline struct sandbox *recorded(__u64 *id)
{
	*id = traced_sandbox();
	struct sandbox *sb = bpf_map_lookup_elem(&sandboxes, id);
	return sb && sb->flags & SANDBOX_RECORD ? sb : 0;
}

/* refused_call records a call that has started a record. */
static __noinline int refused_call(struct scratch *s, __u32 flags, long nr, long ret)
{
	if (nr < 0)
		return 0; /* no call: a return from a signal handler brings registers back */
	s->d.nr = nr;
	if (compat(current_task(), nr))
		return by_other_door(s, nr);
	if (nr >= ABSENT)
		return 0;
	const volatile struct call *c = &calls[nr];
	if (!c->id || (c->refused && flags & SANDBOX_NO_REFUSED))
		return 0;
	if (marked(s->d.time, nr, ret))
		return 0;
	s->d.key.call = c->id;
	return collect(s, c) ? finish(s, nr) : 0;
}

#endif
