/* SPDX-License-Identifier: GPL-2.0-only */
/* Unix sockets by the name that the process gives (Linux 6.7). */
#ifndef UNIX_H
#define UNIX_H

extern void *bpf_cast_to_kern_ctx(void *obj) __ksym;

/* climbs: the name is relative, or has a ".." in it, so that its beginning does
 * not say where it leads. */
static __always_inline int climbs(const __u8 *path)
{
	if (path[0] != '/')
		return 1;
	for (int i = 0; i < SUN_PATH - 2; i++)
		if (path[i] == '/' && path[i + 1] == '.' && path[i + 2] == '.' &&
		    (i + 3 >= SUN_PATH || path[i + 3] == '/' || path[i + 3] == 0))
			return 1;
	return 0;
}

static __always_inline int reach_unix(struct bpf_sock_addr *ctx)
{
	struct bpf_sock_addr_kern *kern = bpf_cast_to_kern_ctx(ctx);
	struct addr to = {.family = AF_UNIX};
	struct unix_key k = {.bits = 8 * (8 + SUN_PATH)};
	__u32 len = READ(kern, uaddrlen);
	__u64 id;

	to.type = READ(READ(kern, sk), sk_type);
	struct sandbox *sb = registered(&id);
	if (len > 2 + SUN_PATH)
		len = 2 + SUN_PATH;
	if (len > 2)
		bpf_probe_read_kernel(k.path, len - 2, READ(kern, uaddr) + 2);
	if (sb && (len <= 2 || !k.path[0]))
		return 1; /* unnamed; or abstract, which is the network namespace's own */
	__builtin_memcpy(k.sandbox, &id, sizeof(id));
	if (sb && !climbs(k.path) && bpf_map_lookup_elem(&unix_names, &k))
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
