/* SPDX-License-Identifier: GPL-2.0-only */
/* A path on its way through a sandbox's rules: first up, to find its names, then
 * down again, from the root of the mounts. plan.match is the same in Go. */
#ifndef FOLLOW_H
#define FOLLOW_H

/* room is what one walk needs. Programs can be preempted by each other: each takes
 * one that is free. */
struct room {
	__u32 taken;
	__u32 depth;
	__u32 node;
	__u32 flags;   /* the tree's, of the last component */
	__u32 git;     /* what the last component is to git, and the one before */
	__u32 above;
	__u32 length;  /* of the last component */
	__u8 broken;   /* the path could not be followed to its end */
	__u8 hidden, sealed, protected, named, in_root, inner, reading;
	__u64 object;  /* hash of the whole path */
	__u64 raw_hash, folded_hash;
	struct places active, hits, waiting;
	struct dentry *names[FILE_DEPTH];
	__u64 raw[NAME_ROOM], folded[NAME_ROOM]; /* hashes of the component's beginnings */
	__u8 name[NAME_ROOM];
};

enum { ROOMS = 3 };

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, ROOMS);
	__type(key, __u32);
	__type(value, struct room);
} rooms SEC(".maps");

struct follow {
	struct room *m;
	const struct file_box *b;
	__u64 id;
	struct dentry *d;
	struct vfsmount *v;
};

static long ascend(__u32 i, void *state)
{
	struct follow *f = state;
	struct room *m = f->m;
	__u32 at = m->depth;

	if (f->d == READ(f->v, mnt_root)) {
		struct mount *mnt = (void *)f->v - OFFSET(struct mount, mnt);
		struct mount *parent = READ(mnt, mnt_parent);
		if (parent == mnt || !parent) {
			m->broken = 0;
			return 1;
		}
		f->d = READ(mnt, mnt_mountpoint);
		f->v = (void *)parent + OFFSET(struct mount, mnt);
		return 0;
	}
	struct dentry *parent = READ(f->d, d_parent);
	if (parent == f->d || !parent) { /* of no mount: what has no other name, either */
		m->broken = at > 0;
		return 1;
	}
	if (at >= FILE_DEPTH)
		return 1;
	m->names[at] = f->d;
	m->depth = at + 1;
	f->d = parent;
	return 0;
}

static long hash_byte(__u32 i, void *state)
{
	struct room *m = ((struct follow *)state)->m;

	BOUND(i, NAME_ROOM - 2);
	__u8 c = m->name[i];
	m->raw_hash = (m->raw_hash + c + 1) * FILE_HASH;
	if (c >= 'A' && c <= 'Z')
		c += 'a' - 'A';
	m->folded_hash = (m->folded_hash + c + 1) * FILE_HASH;
	m->raw[i + 1] = m->raw_hash;
	m->folded[i + 1] = m->folded_hash;
	return 0;
}

static long try_wild(__u32 i, void *state)
{
	struct follow *f = state;
	struct room *m = f->m;

	BOUND(i, FILE_WILDS - 1);
	const struct file_wild *w = &f->b->wild[i];
	__u32 before = w->before_len, after = w->after_len, n = m->length;

	if (n < before + after)
		return 0;
	BOUND(n, NAME_ROOM - 1);
	BOUND(before, NAME_ROOM - 1);
	after = n - after;
	BOUND(after, NAME_ROOM - 1);
	const __u64 *h = w->fold ? m->folded : m->raw;
	if (h[before] != w->before || h[n] - h[after] * w->shift != w->after)
		return 0;
	m->waiting.w[0] |= w->places.w[0];
	m->waiting.w[1] |= w->places.w[1];
	return 0;
}

static __always_inline struct file_value *look(struct follow *f, __u64 name, __u32 node)
{
	struct file_key k = {.sandbox = f->id, .name = name, .node = node};

	return bpf_map_lookup_elem(&file_names, &k);
}

/* wait finds the positions that the component was waited for by. */
static __always_inline void wait(struct follow *f)
{
	struct room *m = f->m;
	struct file_value *v = look(f, m->folded_hash, NODE_FOLD);

	m->waiting.w[0] = m->waiting.w[1] = 0;
	m->above = m->git;
	m->git = 0;
	if (v) {
		m->waiting = v->places;
		m->git = v->flags;
	}
	if (f->b->words && (v = look(f, m->raw_hash, NODE_WORD))) {
		m->waiting.w[0] |= v->places.w[0];
		m->waiting.w[1] |= v->places.w[1];
	}
	if (meet(&m->active, &f->b->wilded))
		bpf_loop(f->b->wilds, try_wild, f, 0);
	m->inner |= m->above & GIT_DIR && m->git & GIT_INNER;
}

static __always_inline void take_flags(struct room *m, __u32 flags)
{
	if (flags & FILE_PRIVATE)
		m->hidden = m->protected = 0;
	if (flags & FILE_HIDE)
		m->hidden = 1;
	if (flags & FILE_SHOW)
		m->hidden = 0;
	m->sealed |= !!(flags & FILE_SEAL);
	m->protected |= !!(flags & FILE_PROTECT);
	m->in_root |= !!(flags & FILE_ROOT);
	m->flags = flags;
}

/* pass moves on by one component, whose positions are known. */
static __always_inline int pass(struct follow *f)
{
	struct room *m = f->m;
	const struct file_box *b = f->b;
	struct file_value *v = m->node == NODE_NONE ? 0 : look(f, m->raw_hash, m->node);

	for (int w = 0; w < FILE_WORDS; w++) {
		__u64 hits = m->active.w[w] & m->waiting.w[w];
		m->hits.w[w] = hits;
		m->active.w[w] = (m->active.w[w] & b->loop.w[w]) | (hits & ~b->last.w[w]) << 1;
		if (v)
			m->active.w[w] |= v->places.w[w];
	}
	m->hidden |= !!meet(&m->hits, &b->hide);
	m->protected |= !!meet(&m->hits, &b->protect);
	m->named |= !!meet(&m->hits, &b->name_dir);
	m->in_root |= !!meet(&m->hits, &b->root);
	take_flags(m, v ? v->flags : 0);
	if (meet(&m->hits, &b->show))
		m->hidden = 0;
	m->node = v ? v->to : NODE_NONE;
	if (v)
		return 0;
	/* Nothing that is still to come can change the answer. */
	return m->reading && !meet(&m->active, &b->reads);
}

static long descend(__u32 i, void *state)
{
	struct follow *f = state;
	struct room *m = f->m;
	__u32 at = m->depth - 1 - i;

	BOUND(at, FILE_DEPTH - 1);
	struct dentry *d = m->names[at];
	long n = bpf_probe_read_kernel_str(m->name, NAME_ROOM, READ(d, d_name.name));
	if (n <= 1) {
		m->broken = 1;
		return 1;
	}
	m->length = n - 1;
	m->raw_hash = m->folded_hash = 0;
	bpf_loop(n - 1, hash_byte, f, 0);
	m->object = mix(m->object, m->raw_hash);
	wait(f);
	return pass(f);
}

#endif
