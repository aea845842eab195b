/* SPDX-License-Identifier: GPL-2.0-only */
/* Refused system calls where they return to the process. */
#ifndef SYSEXIT_H
#define SYSEXIT_H

/* refused is apart so that the program itself saves no registers. */
static __noinline int refused(__u64 *ctx)
{
	__u64 id;

	if (elsewhere())
		return 0;
	struct sandbox *sb = recorded(&id);
	struct scratch *s = sb ? scratch(SCRATCH_EXIT) : 0;
	if (!s)
		return 0;
	long ret = (long)ctx[1];
	start(s, id, ret, HOOK_EXIT);
	long nr = read_regs((struct pt_regs *)ctx[0], s->d.args);
	return refused_call(s, sb->flags, nr, ret);
}

/* Every call of the machine comes here, and nearly every one goes at once. */
SEC("tp_btf/sys_exit")
int syscall_exit(__u64 *ctx)
{
	return is_refusal((long)ctx[1]) ? refused(ctx) : 0;
}

#endif
