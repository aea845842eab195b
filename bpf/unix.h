/* SPDX-License-Identifier: GPL-2.0-only */
/* Unix sockets by the name that the process gives (Linux 6.7). */
#ifndef UNIX_H
#define UNIX_H

extern void *bpf_cast_to_kern_ctx(void *obj) __ksym;

/* A kernel with these programs has bpf_loop. */
static long climb_at(__u32 i, void *state)
{
	const struct unix_key *k = state;

	BOUND(i, SUN_PATH - 4);
	return k->path[i] == '/' && k->path[i + 1] == '.' && k->path[i + 2] == '.' &&
	       (k->path[i + 3] == '/' || k->path[i + 3] == 0);
}

/* climbs: the name is relative, or has a ".." in it, so that its beginning does
 * not say where it leads. */
static __always_inline int climbs(struct unix_key *k)
{
	const __u8 *last = k->path + SUN_PATH - 3;

	if (k->path[0] != '/' || (last[0] == '/' && last[1] == '.' && last[2] == '.'))
		return 1;
	if (climb_at(SUN_PATH - 4, k)) /* else the number of turns would not tell */
		return 1;
	return bpf_loop(SUN_PATH - 3, climb_at, k, 0) != SUN_PATH - 3;
}

static __always_inline int reach_unix(struct bpf_sock_addr *ctx)
{
	struct bpf_sock_addr_kern *kern = bpf_cast_to_kern_ctx(ctx);
	struct addr to = {.family = AF_UNIX};
	struct unix_key k = {.bits = 8 * (8 + SUN_PATH)};
	__u32 len = READ(kern, uaddrlen);
	__u64 id;

	if (outsider())
		return 1;
	to.type = READ(READ(kern, sk), sk_type);
	struct sandbox *sb = registered(&id);
	if (sb && sb->flags & SANDBOX_ANY_UNIX)
		return 1;
	if (len > 2 + SUN_PATH)
		len = 2 + SUN_PATH;
	if (len > 2)
		bpf_probe_read_kernel(k.path, len - 2, READ(kern, uaddr) + 2);
	if (sb && (len <= 2 || !k.path[0]))
		return 1; /* unnamed; or abstract, which is the network namespace's own */
	__builtin_memcpy(k.sandbox, &id, sizeof(id));
	if (sb && !climbs(&k) && bpf_map_lookup_elem(&unix_names, &k))
		return 1;
	hook_refused(id, OP_UNIX_CONNECT, HOOK_UNIX, &to, k.path);
	return 0;
}

SEC("cgroup/connect_unix")
int connect_unix(struct bpf_sock_addr *ctx)
{
	return reach_unix(ctx);
}

SEC("cgroup/sendmsg_unix")
int sendmsg_unix(struct bpf_sock_addr *ctx)
{
	return reach_unix(ctx);
}

#endif
