/* SPDX-License-Identifier: GPL-2.0-only */
/* Processes inside sandboxes, from fork and exec to their end. A process that
 * is gone stays in procs until the reader, having read all that it did, takes
 * it out. */
#ifndef PROC_H
#define PROC_H

/* new_key makes a key that no other process ever had: the time, with the CPU in
 * its last ten bits. No CPU forks or executes twice in a microsecond. */
static __always_inline __u64 new_key(void)
{
	return (bpf_ktime_get_boot_ns() & ~1023ULL) | (bpf_get_smp_processor_id() & 1023);
}

static __always_inline __u64 sandbox_of_current(void)
{
	__u64 id = traced_sandbox();

	return id && bpf_map_lookup_elem(&sandboxes, &id) ? id : 0;
}

/* copy_part takes the last walk out of the scratch. */
static __always_inline __u16 copy_part(struct scratch *s, __u8 *to, __u32 max)
{
	__u32 n = s->used < max ? s->used : max;

	bpf_probe_read_kernel(to, max, s->data);
	return n;
}

/* describe fills in what the current process's memory and files say. */
static __noinline int describe(struct proc *p, struct scratch *s, __u32 which)
{
	struct task_struct *t = current_task();
	struct mm_struct *mm = READ(t, mm);
	struct file *exe = READ(mm, exe_file);
	unsigned long from = READ(mm, arg_start), n = READ(mm, arg_end) - from;

	p->exe_ino = READ(READ(exe, f_inode), i_ino);
	p->exe_dev = READ(READ(READ(exe, f_inode), i_sb), s_dev);
	bpf_probe_read_kernel(p->comm, sizeof(p->comm), __builtin_preserve_access_index(&t->comm));
	p->argv_len = n;
	if (n > ARGV_MAX)
		n = ARGV_MAX;
	if (bpf_probe_read_user(p->argv, n, (void *)from))
		p->argv_len = 0;
	s->used = 0;
	put_walk(s, which, PART_DIR, __builtin_preserve_access_index(&exe->f_path));
	p->exe_state = s->d.state[PART_DIR];
	p->exe_len = copy_part(s, p->exe, EXE_MAX);
	s->used = 0;
	struct fs_struct *fs = READ(t, fs);
	put_walk(s, which, PART_CWD, __builtin_preserve_access_index(&fs->pwd));
	p->cwd_state = s->d.state[PART_CWD];
	p->cwd_len = copy_part(s, p->cwd, CWD_MAX);
	return 0;
}

/* keep makes id the task's process. */
static __always_inline struct proc *keep(__u64 id, struct task_struct *t, const struct proc *like, __u64 sandbox)
{
	__u32 tgid = READ(t, tgid);

	if (bpf_map_update_elem(&procs, &id, like, 0)) {
		count_at(COUNT_PROC_FULL);
		bpf_map_delete_elem(&pids, &tgid);
		return 0;
	}
	bpf_map_update_elem(&pids, &tgid, &id, 0);
	struct proc *p = bpf_map_lookup_elem(&procs, &id);
	if (!p)
		return 0;
	p->sandbox = sandbox;
	p->tgid = tgid;
	p->start = READ(READ(t, group_leader), start_boottime);
	p->uid = READ(READ(t, cred), uid.val);
	p->loginuid = login_of(t);
	p->ended = 0;
	return p;
}

static __always_inline void say_gone(__u64 id, __u64 now)
{
	struct gone g = {.kind = KIND_GONE, .proc = id, .time = now};
	struct proc *p = bpf_map_lookup_elem(&procs, &id);

	if (p)
		p->ended = now;
	if (bpf_ringbuf_output(&events, &g, sizeof(g), tell_flags()))
		count_at(COUNT_GONE_LOST);
}

SEC("tp_btf/sched_process_fork")
int process_fork(__u64 *ctx)
{
	struct task_struct *child = (void *)ctx[1];
	__u64 id, sandbox = sandbox_of_current();
	struct scratch *s = scratch(SCRATCH_FORK);

	if (!sandbox || !s || READ(child, pid) != READ(child, tgid))
		return 0;
	__u64 from = proc_of(READ(current_task(), tgid));
	struct proc *parent = bpf_map_lookup_elem(&procs, &from);
	id = new_key();
	struct proc *p = keep(id, child, parent ? parent : (void *)s->data, sandbox);
	if (!p)
		return 0;
	if (!parent)
		describe(p, s, SCRATCH_FORK);
	p->parent = parent ? from : 0;
	p->before = 0;
	return 0;
}

SEC("tp_btf/sched_process_exec")
int process_exec(__u64 *ctx)
{
	struct task_struct *t = (void *)ctx[0];
	__u64 id, sandbox = sandbox_of_current();
	struct scratch *s = scratch(SCRATCH_EXEC);

	if (!sandbox || !s)
		return 0;
	__u64 from = proc_of(READ(t, tgid)), parent = 0;
	struct proc *before = bpf_map_lookup_elem(&procs, &from);
	if (before)
		parent = before->parent;
	id = new_key();
	struct proc *p = keep(id, t, (void *)s->data, sandbox);
	if (p) {
		describe(p, s, SCRATCH_EXEC);
		p->parent = parent;
		p->before = before ? from : 0;
	}
	if (before)
		say_gone(from, bpf_ktime_get_boot_ns());
	return 0;
}

SEC("tp_btf/sched_process_exit")
int process_exit(__u64 *ctx)
{
	struct task_struct *t = (void *)ctx[0];
	__u32 tgid = READ(t, tgid);
	__u64 id = proc_of(tgid);

	if (!id || READ(READ(t, signal), live.counter) > 0)
		return 0; /* not in a sandbox, or other threads go on */
	bpf_map_delete_elem(&pids, &tgid);
	say_gone(id, bpf_ktime_get_boot_ns());
	return 0;
}

#endif
