/* SPDX-License-Identifier: GPL-2.0-only */
/* Refused system calls, at the functions that make them. */
#ifndef FEXIT_H
#define FEXIT_H

/* What all calls have in common is one program, which is loaded once; what is
 * attached to each of them leads there. */
struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} fexit_next SEC(".maps");

/* The loader says which function. */
SEC("fexit/call")
int call_exit(__u64 *ctx)
{
	if (is_refusal((long)ctx[1]) && !elsewhere())
		bpf_tail_call(ctx, &fexit_next, 0);
	return 0;
}

/* unrecorded counts what there is no room to record: it will be lost, with a number. */
static __always_inline int unrecorded(__u32 op)
{
	count_at(COUNT_SEEN + (op & 31));
	return 0;
}

/* refused_in records the call that a process made with these registers. */
static __noinline int refused_in(struct pt_regs *regs, long ret)
{
	__u64 id, args[6];
	struct sandbox *sb = recorded(&id);

	if (!sb)
		return 0;
	long nr = read_regs(regs, args);
	__u32 slot = take();
	struct scratch *s = slot < NO_SLOT ? scratch(slot) : 0;
	if (!s)
		return nr >= 0 && nr < ABSENT && calls[nr].id ? unrecorded(calls[nr].op) : 0;
	start(s, id, ret, HOOK_CALL);
	__builtin_memcpy(s->d.args, args, sizeof(args));
	refused_call(s, sb->flags, nr, ret);
	give_back(slot);
	return 0;
}

SEC("fexit/call")
int call_refused(__u64 *ctx)
{
	return refused_in((struct pt_regs *)ctx[0], (long)ctx[1]);
}

/* A call that seccomp's supervisor answers is never made: its function does not run.
 * It waits for the answer in one of two functions, which others wait in, too. */
static __always_inline int answered(__u64 *ctx)
{
	struct task_struct *t = bpf_get_current_task_btf();
	struct seccomp_knotif *n = (void *)ctx[0] - OFFSET(struct seccomp_knotif, ready);

	if ((int)ctx[1] || elsewhere() || READ(n, task) != t || READ(n, state) != SECCOMP_NOTIFY_REPLIED)
		return 0;
	long ret = READ(n, error);
	return is_refusal(ret) ? refused_in(bpf_task_pt_regs(t), ret) : 0;
}

SEC("fexit/wait")
int answer_exit(__u64 *ctx)
{
	return answered(ctx);
}

SEC("fexit/wait")
int answer_exit_killable(__u64 *ctx)
{
	return answered(ctx);
}

#endif
