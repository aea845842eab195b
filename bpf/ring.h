/* SPDX-License-Identifier: GPL-2.0-only */
/* Which system call is being made, and whether io_uring makes the attempt. */
#ifndef RING_H
#define RING_H

enum { PF_IO_WORKER = 0x10 };
enum { NR_IO_URING_ENTER = 426 };

/* call_now is the system call that is being made, for its mark; a worker of
 * io_uring makes none. */
static __always_inline __u32 call_now(void)
{
	struct task_struct *t = bpf_get_current_task_btf();
	long nr;

	if (READ(t, flags) & PF_IO_WORKER)
		return NO_CALL;
#ifdef __TARGET_ARCH_x86
	nr = READ(bpf_task_pt_regs(t), orig_ax);
#else
	nr = READ(bpf_task_pt_regs(t), syscallno);
#endif
	return nr >= 0 && nr < MARK_ANY ? nr : NO_CALL;
}

/* mark_of is what marks a name's refusal: io_uring has a mark of its own, since
 * what it does by the way of a system call, or of none, is not that call's. What
 * it does after the call, on the way back, cannot be told from it. */
static __always_inline __u32 mark_of(__u32 nr)
{
	return nr == NO_CALL || nr == NR_IO_URING_ENTER ? MARK_RING : nr;
}

/* mark_name notes that the use of a name that fails now was recorded. */
static __always_inline void mark_name(__u64 now)
{
	mark(now, mark_of(call_now()));
}

#endif
