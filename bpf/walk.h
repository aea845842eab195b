/* SPDX-License-Identifier: GPL-2.0-only */
/* Paths, as names from the leaf to the root: bpf_d_path is not for tracepoints. */
#ifndef WALK_H
#define WALK_H

/* Without bpf_loop the verifier follows every turn of a loop by itself. */
enum { NAMES_MAX = 64, NAMES_MAX_LOOP = 2100, NAME_ROOM = 256 };

/* climb is a walk in progress. */
struct climb {
	struct scratch *s;
	struct dentry *d, *root;
	struct vfsmount *v, *root_mount;
	int state;
};

/* step appends one name to the data; 0 if there was no room. */
static __always_inline int step(struct scratch *s, struct dentry *d)
{
	__u32 at = s->used;

	if (at > DATA_MAX - NAME_ROOM)
		return 0;
	long n = bpf_probe_read_kernel_str(s->data + at, NAME_ROOM, READ(d, d_name.name));
	if (n <= 0)
		return 0;
	s->used = at + n;
	return 1;
}

static __always_inline int end(struct climb *c, int state)
{
	c->state = state;
	return 1;
}

/* climb_on goes one name up; 1 at the end. */
static __always_inline int climb_on(struct climb *c)
{
	if (c->d == c->root && c->v == c->root_mount)
		return end(c, PART_WHOLE);
	if (c->d == READ(c->v, mnt_root)) {
		struct mount *m = (void *)c->v - OFFSET(struct mount, mnt);
		struct mount *parent = READ(m, mnt_parent);
		if (parent == m || !parent)
			return end(c, PART_OUTSIDE);
		c->d = READ(m, mnt_mountpoint);
		c->v = (void *)parent + OFFSET(struct mount, mnt);
		return 0;
	}
	struct dentry *parent = READ(c->d, d_parent);
	if (parent == c->d || !parent)
		return end(c, PART_OUTSIDE);
	if (!step(c->s, c->d))
		return end(c, PART_CUT);
	c->d = parent;
	return 0;
}

static long climb_turn(__u32 i, void *state)
{
	return climb_on(state);
}

/* walk appends the names from a folder or file up to the process's root. It is
 * global, with numbers for arguments, so that the verifier looks at it once
 * (Linux 5.10 knows no pointers there). */
__attribute__((noinline)) int walk(__u32 which, __u64 d, __u64 v)
{
	struct fs_struct *fs = READ(current_task(), fs);
	struct climb c = {.s = scratch(which), .d = (void *)d, .v = (void *)v, .state = PART_CUT};

	c.root = READ(fs, root.dentry);
	c.root_mount = READ(fs, root.mnt);
	if (!c.s)
		return PART_CUT;
	if (has_loop) {
		bpf_loop(NAMES_MAX_LOOP, climb_turn, &c, 0);
		return c.state;
	}
	for (int i = 0; i < NAMES_MAX; i++)
		if (climb_on(&c))
			break;
	return c.state;
}

/* sock_of is the socket behind a file, or 0. */
static __noinline struct sock *sock_of(struct file *f)
{
	if (!f || (READ(READ(f, f_inode), i_mode) & 0170000) != 0140000)
		return 0;
	struct socket *s = READ(f, private_data);
	return READ(s, sk);
}

/* put ends a part that began at from. */
static __always_inline void put(struct scratch *s, int part, __u32 from, int state)
{
	s->d.len[part] = s->used - from;
	s->d.state[part] = state;
}

static __always_inline void put_walk(struct scratch *s, __u32 which, int part, struct path *p)
{
	__u32 from = s->used;
	struct path at = {};

	bpf_probe_read_kernel(&at, sizeof(at), p);
	int state = walk(which, (__u64)at.dentry, (__u64)at.mnt);
	put(s, part, from, state);
}

#endif
