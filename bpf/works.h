/* SPDX-License-Identifier: GPL-2.0-only */
/* The functions that work on names. The loader says which they are in this kernel. */
#ifndef WORKS_H
#define WORKS_H

SEC("fexit/open")
int open_exit(__u64 *ctx)
{
	struct open_flags *how = (void *)ctx[2];
	long ret = 0;

	bpf_probe_read_kernel(&ret, sizeof(ret), &ctx[3]); /* a pointer, or an error: a number, to the verifier */
	if (!is_refusal(ret))
		return 0;
	struct attempt t = {.args = {ctx[0]}, .a = (void *)ctx[1], .nr = NR_OPENAT, .ret = ret, .work = WORK_OPEN};
	t.flags = t.args[2] = (__u32)READ(how, open_flag);
	return t.flags & FMODE_EXEC ? 0 : refused_name(&t); /* what executes has its own record */
}

SEC("fexit/mkdir")
int mkdir_exit(__u64 *ctx)
{
	struct attempt t = {.args = {ctx[0], 0, ctx[2]}, .a = (void *)ctx[1], .nr = NR_MKDIRAT, .ret = ctx[3], .work = WORK_MKDIR, .copied = 1};

	return done(&t);
}

SEC("fexit/unlink")
int unlink_exit(__u64 *ctx)
{
	struct attempt t = {.args = {ctx[0]}, .a = (void *)ctx[1], .nr = NR_UNLINKAT, .ret = ctx[2], .work = WORK_UNLINK, .copied = 1};

	return done(&t);
}

SEC("fexit/rmdir")
int rmdir_exit(__u64 *ctx)
{
	struct attempt t = {.args = {ctx[0], 0, AT_REMOVEDIR}, .a = (void *)ctx[1], .nr = NR_UNLINKAT, .ret = ctx[2], .work = WORK_RMDIR, .copied = 1};

	return done(&t);
}

SEC("fexit/rename")
int rename_exit(__u64 *ctx)
{
	struct attempt t = {.args = {ctx[0], 0, ctx[2], 0, ctx[4]}, .a = (void *)ctx[1], .b = (void *)ctx[3],
			    .nr = NR_RENAMEAT2, .ret = ctx[5], .work = WORK_RENAME, .copied = 1};

	return done(&t);
}

SEC("fexit/link")
int link_exit(__u64 *ctx)
{
	struct attempt t = {.args = {ctx[0], 0, ctx[2], 0, ctx[4]}, .a = (void *)ctx[1], .b = (void *)ctx[3],
			    .nr = NR_LINKAT, .ret = ctx[5], .work = WORK_LINK, .copied = 1};

	return done(&t);
}

SEC("fexit/symlink")
int symlink_exit(__u64 *ctx)
{
	struct attempt t = {.args = {0, ctx[1]}, .a = (void *)ctx[2], .nr = NR_SYMLINKAT, .ret = ctx[3], .work = WORK_SYMLINK, .copied = 1};

	return done(&t);
}

SEC("fexit/statx")
int statx_exit(__u64 *ctx)
{
	struct attempt t = {.args = {ctx[0], 0, ctx[2], ctx[3]}, .a = (void *)ctx[1], .nr = NR_STATX, .ret = ctx[5], .work = WORK_STATX};

	return is_refusal(t.ret) ? refused_name(&t) : 0;
}

#endif
