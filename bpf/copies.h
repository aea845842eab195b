/* SPDX-License-Identifier: GPL-2.0-only */
/* The kernel's own copies of names, kept for as long as a function runs which lets
 * go of them before it returns (before Linux 7.0, all but those that open or look). */
#ifndef COPIES_H
#define COPIES_H

enum { COPIES = 256, COPY_TRIES = 8 };

/* A copy this old is of a function whose end nobody saw: the programs were taken
 * away meanwhile. */
static const __u64 copy_ns = 60000000000;

struct copy {
	__u64 thread; /* 0: free */
	__u64 time;
	__u8 a[PATH_MAX];
	__u8 b[PATH_MAX];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, COPIES);
	__type(key, __u32);
	__type(value, struct copy);
} fexit_copies SEC(".maps");

static __always_inline struct copy *copy_at(__u64 thread, __u32 try)
{
	__u32 i = ((__u32)mix(0, thread) + try) % COPIES;

	return bpf_map_lookup_elem(&fexit_copies, &i);
}

static __noinline struct copy *take_copy(__u64 thread)
{
	__u64 now = bpf_ktime_get_boot_ns();

	for (__u32 i = 0; i < COPY_TRIES; i++) {
		struct copy *c = copy_at(thread, i);
		if (!c)
			return 0;
		__u64 owner = c->thread;
		if (owner && owner != thread && now - c->time < copy_ns)
			continue;
		if (__sync_val_compare_and_swap(&c->thread, owner, thread) != owner)
			continue;
		c->time = now;
		return c;
	}
	return 0;
}

static __noinline struct copy *find_copy(__u64 thread)
{
	for (__u32 i = 0; i < COPY_TRIES; i++) {
		struct copy *c = copy_at(thread, i);
		if (!c || c->thread == thread)
			return c;
	}
	return 0;
}

static __always_inline void copy_name(__u8 *to, struct filename *f)
{
	if (bpf_probe_read_kernel_str(to, PATH_MAX, READ(f, name)) < 0)
		to[0] = 0;
}

/* keep_names is for the beginning of a function. */
static __always_inline int keep_names(struct filename *a, struct filename *b)
{
	__u64 id;

	if (elsewhere() || !recorded(&id))
		return 0;
	struct copy *c = take_copy(thread_key());
	if (!c)
		return 0; /* what is refused will have no name */
	copy_name(c->a, a);
	if (b)
		copy_name(c->b, b);
	return 0;
}

SEC("fentry/mkdir")
int mkdir_entry(__u64 *ctx)
{
	return keep_names((void *)ctx[1], 0);
}

SEC("fentry/unlink")
int unlink_entry(__u64 *ctx)
{
	return keep_names((void *)ctx[1], 0);
}

SEC("fentry/rmdir")
int rmdir_entry(__u64 *ctx)
{
	return keep_names((void *)ctx[1], 0);
}

SEC("fentry/rename")
int rename_entry(__u64 *ctx)
{
	return keep_names((void *)ctx[1], (void *)ctx[3]);
}

SEC("fentry/link")
int link_entry(__u64 *ctx)
{
	return keep_names((void *)ctx[1], (void *)ctx[3]);
}

SEC("fentry/symlink")
int symlink_entry(__u64 *ctx)
{
	return keep_names((void *)ctx[2], 0);
}

#endif
