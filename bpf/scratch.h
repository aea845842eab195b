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
/* LSM programs can be preempted by each other (bpf_prog_check_recur): each takes
 * what is free. */
enum { SCRATCHES = 3 };
#define scratches pool
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

#endif
