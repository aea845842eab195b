/* SPDX-License-Identifier: GPL-2.0-only */
/* Where sockets may lead. */
#ifndef CONNECT_H
#define CONNECT_H

/* may_reach mirrors the packet rules: TCP is the proxy's to decide, which cannot
 * be avoided; datagrams go to resolvers, which the proxy is, and to the sandbox
 * itself. Asking for the way to port 0 sends nothing (getaddrinfo(3) does).
 * Pings pass here, since only some of them come by (connect, from 6.1): the
 * packet rules refuse all, and the failed call is recorded. */
static __always_inline int may_reach(__u32 sockets, const struct addr *to, __u8 hook)
{
	__u32 bit = socket_bit(to->type, to->protocol);

	if (!(bit & sockets))
		return 0;
	if (bit & (SOCKET_TCP | SOCKET_MPTCP | SOCKET_PING) || own_host(to->ip))
		return 1;
	if (bit != SOCKET_UDP)
		return 0;
	return (to->port == DNS && !to_group(to->ip)) || (to->port == 0 && hook == HOOK_CONNECT);
}

static __always_inline int reach(struct bpf_sock_addr *ctx, struct addr *to, __u8 hook)
{
	__u64 id;

	to->type = ctx->type;
	to->protocol = ctx->protocol;
	to->port = be16(ctx->user_port);
	to->family = is_mapped(to->ip) ? AF_INET : AF_INET6;
	if (outsider())
		return may_reach(SOCKETS_ALL, to, hook);
	struct sandbox *sb = registered(&id);
	if (sb && may_reach(sb->sockets, to, hook))
		return 1;
	hook_refused(id, op_of(to->type, to->protocol), hook, to, 0);
	return 0;
}

static __always_inline int reach4(struct bpf_sock_addr *ctx, __u8 hook)
{
	struct addr to = {};

	mapped(to.ip, ctx->user_ip4);
	return reach(ctx, &to, hook);
}

static __always_inline int reach6(struct bpf_sock_addr *ctx, __u8 hook)
{
	struct addr to = {};
	__u32 *ip = (__u32 *)to.ip;

	ip[0] = ctx->user_ip6[0];
	ip[1] = ctx->user_ip6[1];
	ip[2] = ctx->user_ip6[2];
	ip[3] = ctx->user_ip6[3];
	return reach(ctx, &to, hook);
}

SEC("cgroup/connect4")
int connect4(struct bpf_sock_addr *ctx)
{
	return reach4(ctx, HOOK_CONNECT);
}

SEC("cgroup/connect6")
int connect6(struct bpf_sock_addr *ctx)
{
	return reach6(ctx, HOOK_CONNECT);
}

SEC("cgroup/sendmsg4")
int sendmsg4(struct bpf_sock_addr *ctx)
{
	return reach4(ctx, HOOK_SENDMSG);
}

SEC("cgroup/sendmsg6")
int sendmsg6(struct bpf_sock_addr *ctx)
{
	return reach6(ctx, HOOK_SENDMSG);
}

#endif
