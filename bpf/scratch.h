/* SPDX-License-Identifier: GPL-2.0-only */
/* Room to put a record together. */
#ifndef SCRATCH_H
#define SCRATCH_H

struct scratch {
	__u32 used; /* of data */
	__u32 taken;
	struct denial d; /* a record begins here */
	__u8 data[DATA_MAX];
};

#ifndef POOL
/* One a program: while one runs, no other instance of it does on the same CPU
 * (kernel/trace/bpf_trace.c). */
enum { SCRATCH_EXIT, SCRATCH_EXEC, SCRATCH_FORK, SCRATCHES };
#else
/* These programs can be preempted by each other: each takes what is free. taken is
 * the slot's number, and one. */
enum { SCRATCHES = 3, NO_SLOT = SCRATCHES };
#define scratches POOL
#endif

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, SCRATCHES);
	__type(key, __u32);
	__type(value, struct scratch);
} scratches SEC(".maps");

static __always_inline struct scratch *scratch(__u32 which)
{
	return bpf_map_lookup_elem(&scratches, &which);
}

#ifndef POOL
#define SLOT(s) SCRATCH_EXIT
#else
#define SLOT(s) ((s)->taken - 1)

/* take gives a scratch that nobody uses, or NO_SLOT. */
static __always_inline __u32 take(void)
{
	for (__u32 i = 0; i < SCRATCHES; i++) {
		struct scratch *s = scratch(i);
		if (s && !__sync_val_compare_and_swap(&s->taken, 0, i + 1)) {
			s->used = 0;
			return i;
		}
	}
	return NO_SLOT;
}

static __always_inline void give_back(__u32 slot)
{
	struct scratch *s = scratch(slot);

	if (s)
		s->taken = 0;
}
#endif

#endif
