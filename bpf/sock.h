/* SPDX-License-Identifier: GPL-2.0-only */
/* Which sockets may be. */
#ifndef SOCK_H
#define SOCK_H

/* registered finds the sandbox of whoever is running. The hooks go by the cgroup
 * in which a socket was made: in none of ours, nothing is allowed. */
static __always_inline struct sandbox *registered(__u64 *id)
{
	*id = bpf_get_current_ancestor_cgroup_id(level);
	struct sandbox *sb = bpf_map_lookup_elem(&sandboxes, id);
	if (!sb)
		count_at(COUNT_UNREGISTERED);
	return sb;
}

/* outsider: the socket is a sandbox's, who acts upon it is not: its supervisor,
 * which connects in a process's place. What that is refused is recorded where
 * the process's own call returns. */
static __always_inline int outsider(void)
{
	return bpf_get_current_ancestor_cgroup_id((int)level - 1) != parent;
}

SEC("cgroup/sock_create")
int socket_create(struct bpf_sock *ctx)
{
	struct addr to = {.family = ctx->family, .type = ctx->type, .protocol = ctx->protocol};
	__u64 id;
	struct sandbox *sb = registered(&id);
	__u32 bit = socket_bit(to.type, to.protocol);

	if (sb && bit & sb->sockets)
		return 1;
	hook_refused(id, to.type == SOCK_RAW ? OP_NET_RAW : OP_NET_SOCKET, HOOK_SOCKET, &to, 0);
	return 0;
}

#endif
