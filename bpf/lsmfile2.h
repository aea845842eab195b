/* SPDX-License-Identifier: GPL-2.0-only */
/* Two names at once, and files that have theirs. */
#ifndef LSMFILE2_H
#define LSMFILE2_H

/* lsm_link: another name for what may not be written under its own. */
SEC("lsm/path_link")
int lsm_link(__u64 *ctx)
{
	struct subject from = {}, to = {};
	struct path *dir = (void *)ctx[1];
	int before = ctx[3];

	if (before || !begin_subject(&from, DO_WRITE))
		return before;
	to = from;
	from.leaf = (void *)ctx[0];
	from.at = READ(from.leaf, d_parent);
	from.mount = READ(dir, mnt); /* it is the same (linkat(2), EXDEV) */
	in_folder(&to, dir, (void *)ctx[2]);
	int why = judge(&from);
	if (!why)
		why = judge(&to);
	if (!why)
		why = plant(&to);
	return why ? refuse_file(OP_HOOK(OP_FILE_LINK, HOOK_LSM_LINK), why, &from, &to) : 0;
}

SEC("lsm/path_rename")
int lsm_rename(__u64 *ctx)
{
	struct subject from = {}, to = {};
	int flags = ctx[4], before = ctx[5];

	if (before || !begin_subject(&from, DO_MOVE))
		return before;
	to = from;
	in_folder(&from, (void *)ctx[0], (void *)ctx[1]);
	in_folder(&to, (void *)ctx[2], (void *)ctx[3]);
	int why = judge(&from);
	if (!why)
		why = judge(&to);
	if (!why)
		why = plant(&to);
	if (why)
		return refuse_file(OP_HOOK(OP_FILE_RENAME, HOOK_LSM_RENAME), why, &from, &to);
	if (!(flags & RENAME_EXCHANGE))
		uproot(&from);
	return 0;
}

/* use is for a file that is there. */
static __always_inline int use(struct path *path, __u32 how, __u32 op_hook)
{
	struct subject s = {};

	if (!begin_subject(&s, how))
		return 0;
	in_folder(&s, path, 0);
	int why = judge(&s);
	return why ? refuse_file(op_hook, why, &s, 0) : 0;
}

SEC("lsm/file_open")
int lsm_open(__u64 *ctx)
{
	struct file *f = (void *)ctx[0];
	int before = ctx[1];

	if (before || elsewhere())
		return before;
	struct path *path = __builtin_preserve_access_index(&f->f_path);
	if (READ(f, f_mode) & FMODE_WRITE)
		return use(path, DO_WRITE, OP_HOOK(OP_FILE_WRITE, HOOK_LSM_OPEN));
	return READ(f, f_flags) & FMODE_EXEC ? use(path, DO_READ, OP_HOOK(OP_FILE_EXEC, HOOK_LSM_OPEN))
					     : use(path, DO_READ, OP_HOOK(OP_FILE_READ, HOOK_LSM_OPEN));
}

SEC("lsm/path_truncate")
int lsm_truncate(__u64 *ctx)
{
	int before = ctx[1];

	return before ? before : use((void *)ctx[0], DO_WRITE, OP_HOOK(OP_FILE_WRITE, HOOK_LSM_TRUNCATE));
}

SEC("lsm/path_chmod")
int lsm_chmod(__u64 *ctx)
{
	int before = ctx[2];

	return before ? before : use((void *)ctx[0], DO_WRITE, OP_HOOK(OP_FILE_META, HOOK_LSM_CHMOD));
}

#endif
