/* SPDX-License-Identifier: GPL-2.0-only */
/* Whether a sandbox may do something with a name. */
#ifndef JUDGE_H
#define JUDGE_H

/* What is done, in the order of plan.FileOp. */
enum file_op { DO_READ, DO_WRITE, DO_MKDIR, DO_DELETE, DO_MOVE };

/* Why it is refused. */
enum file_why {
	WHY_NOT,
	WHY_NAME,  /* the policy's rules for names */
	WHY_PLANT, /* a repository would come to be */
	WHY_LOST,  /* the path could not be followed */
};

/* subject is a name: a leaf in a folder, or without a leaf the folder or file
 * itself. */
struct subject {
	__u64 id;
	const struct file_box *box;
	struct dentry *leaf, *at;
	struct vfsmount *mount;
	__u64 object;
	__u32 plants; /* the name is GIT_HEAD, ..., and none of git's own places */
	__u32 how;
};

static __always_inline struct room *take_room(void)
{
	for (__u32 i = 0; i < ROOMS; i++) {
		__u32 k = i;
		struct room *m = bpf_map_lookup_elem(&rooms, &k);
		if (m && !__sync_val_compare_and_swap(&m->taken, 0, 1))
			return m;
	}
	return 0;
}

static __always_inline void enter(struct room *m, const struct subject *s)
{
	m->depth = 0;
	m->node = NODE_ROOT;
	m->git = m->above = 0;
	m->broken = 1;
	m->hidden = m->sealed = m->protected = m->named = m->in_root = m->inner = 0;
	m->reading = s->how == DO_READ;
	m->object = 0;
	m->active = s->box->start;
	m->hits.w[0] = m->hits.w[1] = 0;
	m->raw[0] = m->folded[0] = 0;
	take_flags(m, s->box->flags);
	if (s->leaf) {
		m->names[0] = s->leaf;
		m->depth = 1;
	}
}

/* answer is plan.match's refuses. */
static __always_inline int answer(const struct room *m, const struct file_box *b, __u32 how)
{
	if (m->hidden || m->sealed)
		return 1;
	if (how == DO_READ)
		return 0;
	if (m->protected)
		return 1;
	if (m->in_root && (m->named || meet(&m->hits, &b->name) || (how != DO_MKDIR && meet(&m->hits, &b->git_file))))
		return 1;
	if (how < DO_DELETE)
		return 0;
	if (m->flags & FILE_HOLDS || (m->in_root && (meet(&m->hits, &b->hold) || meet(&m->hits, &b->name_hold))))
		return 1;
	return how == DO_MOVE && (m->flags & FILE_GLOBS || meet(&m->hits, &b->glob_hold));
}

/* judge gives the reason to refuse, or WHY_NOT. */
static __noinline int judge(struct subject *s)
{
	struct room *m = take_room();
	struct follow f = {.m = m, .b = s->box, .id = s->id, .d = s->at, .v = s->mount};
	int why = WHY_LOST;

	if (!m)
		return why;
	enter(m, s);
	bpf_loop(FILE_DEPTH * 2, ascend, &f, 0);
	if (!m->broken) {
		bpf_loop(m->depth, descend, &f, 0);
		if (!m->broken)
			why = answer(m, s->box, s->how) ? WHY_NAME : WHY_NOT;
		s->plants = m->in_root && !m->inner && !(m->above & GIT_DIR) ? m->git & GIT_PLANT : 0;
	}
	s->object = m->object;
	m->taken = 0;
	return why;
}

/* plant notes that a part of a repository comes to be in a folder, and refuses
 * the last of them. The kernel holds the folder's lock meanwhile. */
static __noinline int plant(const struct subject *s)
{
	struct inode *dir = READ(s->at, d_inode);
	struct plant_key k = {.sandbox = s->id, .ino = READ(dir, i_ino), .dev = READ(READ(dir, i_sb), s_dev)};
	__u32 *old = bpf_map_lookup_elem(&plants, &k);
	__u32 now = s->plants | (old ? *old : 0);

	if (!s->plants || !s->box->bare)
		return WHY_NOT;
	if (now == GIT_PLANT || bpf_map_update_elem(&plants, &k, &now, 0))
		return WHY_PLANT;
	return WHY_NOT;
}

/* uproot notes that it is gone, or the folder itself. */
static __noinline void uproot(const struct subject *s)
{
	struct inode *dir = READ(s->at, d_inode), *own = READ(s->leaf, d_inode);
	struct plant_key k = {.sandbox = s->id, .ino = READ(dir, i_ino), .dev = READ(READ(dir, i_sb), s_dev)};
	__u32 *old = bpf_map_lookup_elem(&plants, &k);

	if (old && s->plants)
		*old &= ~s->plants;
	k.ino = READ(own, i_ino);
	if (s->how == DO_DELETE)
		bpf_map_delete_elem(&plants, &k);
}

#endif
