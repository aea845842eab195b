/* SPDX-License-Identifier: GPL-2.0-only */
/* Who is running, and in which sandbox. */
#ifndef TASK_H
#define TASK_H

static __always_inline void count_at(__u32 i)
{
	__u64 *n = bpf_map_lookup_elem(&counters, &i);

	if (n)
		__sync_fetch_and_add(n, 1);
}

static __always_inline struct task_struct *current_task(void)
{
	return (struct task_struct *)bpf_get_current_task();
}

/* sandbox_of gives the ancestor of a cgroup that would be its sandbox, or 0. */
static __noinline __u64 sandbox_of(struct cgroup *group)
{
	int depth = READ(group, level);
	struct cgroup *above = 0;
	__u64 id = 0;

	if (depth < (int)level)
		return 0;
	if (HAS(struct cgroup, ancestors)) {
		bpf_probe_read_kernel(&above, sizeof(above),
				      (void *)group + OFFSET(struct cgroup, ancestors) + level * sizeof(above));
		return READ(READ(above, kn), id);
	}
	bpf_probe_read_kernel(&id, sizeof(id),
			      (void *)group + OFFSET(struct cgroup___old, ancestor_ids) + level * sizeof(id));
	return id;
}

/* sandbox_walk is bpf_get_current_ancestor_cgroup_id for programs that cannot
 * call it. */
static __always_inline __u64 sandbox_walk(void)
{
	return sandbox_of(READ(READ(current_task(), cgroups), dfl_cgrp));
}

/* traced_sandbox is the sandbox of whoever is running, for tracing programs. */
static __always_inline __u64 traced_sandbox(void)
{
	return has_ancestor ? bpf_get_current_ancestor_cgroup_id(level) : sandbox_walk();
}

/* elsewhere: whoever is running is surely in no sandbox. It costs less than to look
 * for the sandbox. */
static __always_inline int elsewhere(void)
{
	return has_ancestor && bpf_get_current_ancestor_cgroup_id(level - 1) != parent;
}

static __always_inline __u64 thread_key(void)
{
	struct task_struct *t = current_task();

	return (__u64)READ(t, tgid) << 32 | (__u32)READ(t, pid);
}

/* proc_of gives a process's key into procs, or 0. */
static __always_inline __u64 proc_of(__u32 tgid)
{
	__u64 *id = bpf_map_lookup_elem(&pids, &tgid);

	return id ? *id : 0;
}

static __always_inline __u32 login_of(struct task_struct *t)
{
	return HAS(struct task_struct, loginuid) ? READ(t, loginuid.val) : (__u32)-1;
}

static __noinline int fill_who(struct who *w)
{
	struct task_struct *t = current_task();
	struct task_struct *leader = READ(t, group_leader);
	struct inode *exe = READ(READ(READ(t, mm), exe_file), f_inode);

	w->tgid = READ(t, tgid);
	w->tid = READ(t, pid);
	w->start = READ(leader, start_boottime);
	w->proc = proc_of(w->tgid);
	w->uid = READ(READ(t, cred), uid.val);
	w->loginuid = login_of(t);
	w->exe_ino = READ(exe, i_ino);
	w->exe_dev = READ(READ(exe, i_sb), s_dev);
	w->reserved = 0;
	bpf_probe_read_kernel(w->comm, sizeof(w->comm), __builtin_preserve_access_index(&leader->comm));
	return 0;
}

/* who_key names a process in a tally, known or not. */
static __always_inline __u64 who_key(const struct who *w)
{
	return w->proc ? w->proc : w->start | 1ULL << 63;
}

#endif
