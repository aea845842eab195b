/* SPDX-License-Identifier: GPL-2.0-only */
/* What LSM programs have in common. Each begins with confined(), and ends with 0
 * or with one of the functions here that record and give -EPERM. */
#ifndef LSM_H
#define LSM_H

enum { EPERM = 1 };

/* confined finds the sandbox of whoever is running, if what runs may be its
 * command: 0 for the rest of the machine, which is nearly always, and for what
 * sets the sandbox up. */
static __always_inline struct sandbox *confined(__u64 *id)
{
	if (elsewhere())
		return 0;
	*id = traced_sandbox();
	struct sandbox *sb = bpf_map_lookup_elem(&sandboxes, id);
	return sb && sb->flags & SANDBOX_STARTED ? sb : 0;
}

/* refuse is for what a socket's address, or a number, says enough of. */
static __always_inline int refuse(__u64 id, __u8 op, __u8 hook, const struct addr *to, const __u8 *name, __u64 about)
{
	note(id, op, hook, to, name, call_now(), about);
	return -EPERM;
}

static __always_inline void begin(struct denial *d, __u64 id, __u8 op, __u8 hook)
{
	__builtin_memset(d, 0, sizeof(*d));
	d->kind = KIND_DENIAL;
	d->time = bpf_ktime_get_boot_ns();
	d->key.sandbox = id;
	d->key.err = -EPERM;
	d->key.op = op;
	d->key.hook = hook;
	mark(d->time, call_now());
	fill_who(&d->who);
	d->key.proc = who_key(&d->who);
}

static __always_inline void put_cwd(struct scratch *s, __u32 slot)
{
	struct fs_struct *fs = READ(current_task(), fs);

	put_walk(s, slot, PART_CWD, __builtin_preserve_access_index(&fs->pwd));
}

/* tell ends a record: object tells it from others of its kind. */
static __always_inline void tell(struct scratch *s, __u64 object)
{
	struct denial *d = &s->d;

	d->key.object = object;
	struct tally *t = add_up(d);
	if (t && t->told)
		return;
	__u32 n = s->used;
	BOUND(n, DATA_MAX);
	told(d, t, !bpf_ringbuf_output(&events, d, sizeof(struct denial) + n, tell_flags()));
}

/* unrecorded counts what there is no room to record: it will be lost, with a number. */
static __always_inline int unrecorded(__u32 op)
{
	count_at(COUNT_SEEN + (op & 31));
	return -EPERM;
}

/* refuse_path is for what a place in the file system says enough of: a file's
 * f_path, for instance. */
static __noinline int refuse_path(__u64 id, __u32 op_hook, struct path *path)
{
	__u32 slot = take();
	struct scratch *s = slot < NO_SLOT ? scratch(slot) : 0;

	if (!s)
		return unrecorded(op_hook >> 8);
	begin(&s->d, id, op_hook >> 8, op_hook);
	put_cwd(s, slot); /* the parts have an order */
	put_walk(s, slot, PART_DIR, path);
	struct dentry *d = READ(path, dentry);
	struct inode *inode = READ(d, d_inode);
	tell(s, mix(READ(inode, i_ino), (__u64)d));
	give_back(slot);
	return -EPERM;
}

/* OP_HOOK packs two of refuse_path's arguments, so that there are few. */
#define OP_HOOK(op, hook) ((op) << 8 | (hook))

#endif
