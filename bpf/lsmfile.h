/* SPDX-License-Identifier: GPL-2.0-only */
/* Names of files: what mounts cannot express. What mounts refuse never comes here;
 * the path hooks are called with the folder's lock held. */
#ifndef LSMFILE_H
#define LSMFILE_H

enum { FMODE_WRITE = 2, FMODE_EXEC = 32, RENAME_EXCHANGE = 2 };
enum { EACCES = 13 };

static __always_inline int begin_subject(struct subject *s, __u32 how)
{
	struct sandbox *sb = confined(&s->id);

	s->how = how;
	s->box = sb ? bpf_map_lookup_elem(&file_boxes, &s->id) : 0;
	return s->box != 0;
}

/* in_folder says which name: a leaf in a folder, or the folder or file itself. */
static __always_inline void in_folder(struct subject *s, struct path *dir, struct dentry *leaf)
{
	s->leaf = leaf;
	s->at = READ(dir, dentry);
	s->mount = READ(dir, mnt);
}

static __always_inline void put_subject(struct scratch *s, __u32 slot, int part, const struct subject *j)
{
	__u32 from = s->used;

	if (j->leaf)
		step(s, j->leaf);
	int state = walk(slot, (__u64)j->at, (__u64)j->mount);
	put(s, part, from, state);
}

/* refuse_file records what a name, or two of them, were refused. */
static __noinline int refuse_file(__u32 op_hook, int why, const struct subject *a, const struct subject *b)
{
	__u32 slot = take();
	struct scratch *s = slot < NO_SLOT ? scratch(slot) : 0;

	if (!s) {
		count_at(COUNT_SEEN + (op_hook >> 8 & 31));
		return -EACCES;
	}
	begin(&s->d, a->id, op_hook >> 8, op_hook);
	mark_name(s->d.time);
	s->d.key.err = -EACCES;
	s->d.args[0] = why;
	put_cwd(s, slot); /* the parts have an order */
	put_subject(s, slot, PART_DIR, a);
	if (b)
		put_subject(s, slot, PART_DIR2, b);
	tell(s, mix(a->object, b ? b->object : 0));
	give_back(slot);
	return -EACCES;
}

/* make is for a name that comes to be. */
static __always_inline int make(struct path *dir, struct dentry *leaf, __u32 how, __u32 op_hook)
{
	struct subject s = {};

	if (!begin_subject(&s, how))
		return 0;
	in_folder(&s, dir, leaf);
	int why = judge(&s);
	if (!why)
		why = plant(&s);
	return why ? refuse_file(op_hook, why, &s, 0) : 0;
}

SEC("lsm/path_mknod")
int lsm_mknod(__u64 *ctx)
{
	int before = ctx[4];

	return before ? before : make((void *)ctx[0], (void *)ctx[1], DO_WRITE, OP_HOOK(OP_FILE_CREATE, HOOK_LSM_MKNOD));
}

SEC("lsm/path_mkdir")
int lsm_mkdir(__u64 *ctx)
{
	int before = ctx[3];

	return before ? before : make((void *)ctx[0], (void *)ctx[1], DO_MKDIR, OP_HOOK(OP_FILE_CREATE, HOOK_LSM_MKDIR));
}

/* lsm_symlink: a link of the name of a folder leads to another one's content. */
SEC("lsm/path_symlink")
int lsm_symlink(__u64 *ctx)
{
	int before = ctx[3];

	return before ? before : make((void *)ctx[0], (void *)ctx[1], DO_MOVE, OP_HOOK(OP_FILE_CREATE, HOOK_LSM_SYMLINK));
}

/* drop is for a name that goes. */
static __always_inline int drop(struct path *dir, struct dentry *leaf, __u32 op_hook)
{
	struct subject s = {};

	if (!begin_subject(&s, DO_DELETE))
		return 0;
	in_folder(&s, dir, leaf);
	int why = judge(&s);
	if (why)
		return refuse_file(op_hook, why, &s, 0);
	uproot(&s);
	return 0;
}

SEC("lsm/path_unlink")
int lsm_unlink(__u64 *ctx)
{
	int before = ctx[2];

	return before ? before : drop((void *)ctx[0], (void *)ctx[1], OP_HOOK(OP_FILE_DELETE, HOOK_LSM_UNLINK));
}

SEC("lsm/path_rmdir")
int lsm_rmdir(__u64 *ctx)
{
	int before = ctx[2];

	return before ? before : drop((void *)ctx[0], (void *)ctx[1], OP_HOOK(OP_FILE_DELETE, HOOK_LSM_RMDIR));
}

#endif
