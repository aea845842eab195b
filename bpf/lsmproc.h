/* SPDX-License-Identifier: GPL-2.0-only */
/* Descriptors from outside, user namespaces, other processes. */
#ifndef LSMPROC_H
#define LSMPROC_H

enum { S_IFMT = 0170000, S_IFREG = 0100000, S_IFIFO = 0010000 };
enum { PTRACE_MODE_NOAUDIT = 4 };
enum { EINVAL = 22, USER_NS_DEPTH = 33 };

/* first_process is stage 2: it hands streams from outside on to what joins the
 * sandbox. */
static __always_inline int first_process(void)
{
	struct pid *p = READ(current_task(), thread_pid);
	__u32 level = READ(p, level);
	int nr = 0;

	bpf_probe_read_kernel(&nr, sizeof(nr), (void *)p + OFFSET(struct pid, numbers) + level * 16);
	return level > 0 && nr == 1;
}

/* within: a user namespace is another one, or below it. */
static __always_inline int within(struct user_namespace *u, struct user_namespace *top)
{
	for (int i = 0; i < USER_NS_DEPTH && u; i++) {
		if (u == top)
			return 1;
		u = READ(u, parent);
	}
	return 0;
}

/* own_file: opened through the mounts that the process has, or made inside. The
 * kernel's own mounts belong to no namespace: of what is on these, pipes and
 * memory lead nowhere, the rest is its maker's. */
static __always_inline int own_file(struct file *f, __u32 flags)
{
	struct task_struct *t = current_task();
	struct mnt_namespace *mine = READ(READ(t, nsproxy), mnt_ns);
	struct user_namespace *user = READ(READ(t, cred), user_ns);
	struct mount *m = (void *)READ(f, f_path.mnt) - OFFSET(struct mount, mnt);
	struct mnt_namespace *ns = READ(m, mnt_ns);

	if (ns == mine)
		return 1;
	if ((long)ns == -EINVAL) { /* MNT_NS_INTERNAL */
		__u32 kind = READ(READ(f, f_inode), i_mode) & S_IFMT;
		return kind == S_IFIFO || kind == S_IFREG || within(READ(READ(f, f_cred), user_ns), user);
	}
	return ns && flags & SANDBOX_NESTED && within(READ(ns, user_ns), user);
}

/* own_sock: made inside; or accepted from a socket that was, since the end of a
 * unix socket that is accepted is made by whoever connects. */
static __always_inline int own_sock(struct sock *sk, __u64 id)
{
	struct unix_sock *u = (void *)sk;

	if (!foreign(sk, id))
		return 1;
	return READ(sk, __sk_common.skc_family) == AF_UNIX && !foreign(READ(u, peer), id);
}

SEC("lsm/file_receive")
int lsm_receive(__u64 *ctx)
{
	struct file *f = (void *)ctx[0];
	struct addr to = {};
	int before = ctx[1];
	__u64 id;

	if (before)
		return before;
	struct sandbox *sb = confined(&id);
	if (!sb || first_process())
		return 0;
	struct sock *sk = sock_of(f);
	if (!sk)
		return own_file(f, sb->flags) ? 0
					      : refuse_path(id, OP_HOOK(OP_FILE_READ, HOOK_LSM_RECEIVE),
							    __builtin_preserve_access_index(&f->f_path));
	if (own_sock(sk, id))
		return 0;
	describe_sock(&to, sk);
	destination(&to, sk, 0, 0);
	return refuse(id, OP_NET_SOCKET, HOOK_LSM_RECEIVE, &to, 0, 0);
}

SEC("lsm/userns_create")
int lsm_userns(__u64 *ctx)
{
	struct addr none = {};
	int before = ctx[1];
	__u64 id;

	if (before)
		return before;
	struct sandbox *sb = confined(&id);
	if (!sb || sb->flags & SANDBOX_NESTED)
		return 0;
	return refuse(id, OP_NS_CREATE, HOOK_LSM_USERNS, &none, 0, 0);
}

/* lsm_ptrace is asked for debuggers, process_vm_readv(2), pidfd_getfd(2) and much
 * of /proc/PID. Where the kernel asks only to know what to show, nothing is told. */
SEC("lsm/ptrace_access_check")
int lsm_ptrace(__u64 *ctx)
{
	struct task_struct *child = (void *)ctx[0];
	__u32 mode = ctx[1];
	struct addr none = {};
	int before = ctx[2];
	__u64 id;

	if (before || !confined(&id))
		return before;
	if (sandbox_of(READ(READ(child, cgroups), dfl_cgrp)) == id)
		return 0;
	if (mode & PTRACE_MODE_NOAUDIT)
		return -EPERM;
	return refuse(id, OP_SYS_REFUSED, HOOK_LSM_PTRACE, &none, 0, READ(child, tgid));
}

#endif
