/* SPDX-License-Identifier: GPL-2.0-only */
/* Sockets, by whose they are. Which kinds of IP sockets may be, and where they may
 * lead, the cgroup programs decide, which see the socket's own cgroup alone: here
 * it is compared with the cgroup of whoever uses it. */
#ifndef LSMSOCK_H
#define LSMSOCK_H

enum { AF_NETLINK = 16 };
enum { NETLINK_ROUTE = 0 };

/* foreign: a socket of another sandbox, or of none. */
static __always_inline int foreign(struct sock *sk, __u64 id)
{
	return sandbox_of(READ(sk, sk_cgrp_data.cgroup)) != id;
}

static __always_inline void describe_sock(struct addr *to, struct sock *sk)
{
	to->family = READ(sk, __sk_common.skc_family);
	to->type = READ(sk, sk_type);
	to->protocol = READ(sk, sk_protocol);
}

/* destination fills in an address that the kernel has copied, or else the peer's. */
static __always_inline void destination(struct addr *to, struct sock *sk, const void *from, __u32 len)
{
	__u8 raw[28] = {};

	BOUND(len, (__u32)sizeof(raw));
	if (!from || len < 8) {
		to->port = be16(READ(sk, __sk_common.skc_dport));
		if (to->family == AF_INET)
			mapped(to->ip, READ(sk, __sk_common.skc_daddr));
		else if (to->family == AF_INET6)
			bpf_probe_read_kernel(to->ip, 16, __builtin_preserve_access_index(&sk->__sk_common.skc_v6_daddr));
		return;
	}
	bpf_probe_read_kernel(raw, len, from);
	__u16 family = *(__u16 *)raw;
	if (family == AF_INET6)
		__builtin_memcpy(to->ip, raw + 8, 16);
	else if (family == AF_INET)
		mapped(to->ip, *(__u32 *)(raw + 4));
	if (family == AF_INET || family == AF_INET6)
		to->port = be16(*(__u16 *)(raw + 2));
}

/* used refuses the use of a socket that came from elsewhere. Unix sockets lead to
 * their peer and nowhere else: which peer that may be is decided on its own. */
static __always_inline int used(struct socket *socket, __u8 hook, const void *name, __u32 len)
{
	__u64 id;
	struct sandbox *sb = confined(&id);
	struct sock *sk = READ(socket, sk);
	struct addr to = {};

	if (!sb || !READ(socket, file)) /* the kernel's own: that of a network file system */
		return 0;
	describe_sock(&to, sk);
	if (to.family == AF_UNIX || !foreign(sk, id))
		return 0;
	destination(&to, sk, name, len);
	__u8 op = to.family == AF_INET || to.family == AF_INET6 ? op_of(to.type, to.protocol) : OP_NET_SOCKET;
	return refuse(id, op, hook, &to, 0, 0);
}

/* IP sockets are the cgroup programs' to refuse: inet_create() and its like ask
 * them whatever the protocol. */
SEC("lsm/socket_create")
int lsm_create(__u64 *ctx)
{
	struct addr to = {.family = ctx[0], .type = ctx[1], .protocol = ctx[2]};
	int kernel = ctx[3], before = ctx[4];
	__u64 id;

	if (before || kernel || to.family == AF_INET || to.family == AF_INET6 || to.family == AF_UNIX)
		return before;
	if (!confined(&id) || (to.family == AF_NETLINK && to.protocol == NETLINK_ROUTE))
		return 0;
	return refuse(id, to.family == AF_PACKET ? OP_NET_RAW : OP_NET_SOCKET, HOOK_LSM_SOCKET, &to, 0, 0);
}

SEC("lsm/socket_connect")
int lsm_connect(__u64 *ctx)
{
	int before = ctx[3];

	return before ? before : used((void *)ctx[0], HOOK_LSM_CONNECT, (void *)ctx[1], ctx[2]);
}

SEC("lsm/socket_sendmsg")
int lsm_sendmsg(__u64 *ctx)
{
	struct msghdr *m = (void *)ctx[1];
	int before = ctx[3];

	if (before || elsewhere())
		return before;
	return used((void *)ctx[0], HOOK_LSM_SENDMSG, READ(m, msg_name), READ(m, msg_namelen));
}

/* lsm_listen: a listener is of the sandbox's own making, and of a kind that the
 * sandbox may have. */
SEC("lsm/socket_listen")
int lsm_listen(__u64 *ctx)
{
	struct socket *socket = (void *)ctx[0];
	struct addr to = {};
	int before = ctx[2];
	__u64 id;

	if (before)
		return before;
	struct sandbox *sb = confined(&id);
	if (!sb || !READ(socket, file))
		return 0;
	struct sock *sk = READ(socket, sk);
	describe_sock(&to, sk);
	__u32 kind = socket_bit(to.type, to.protocol);
	if (!foreign(sk, id) && (to.family == AF_UNIX || kind & sb->sockets))
		return 0;
	return refuse(id, OP_NET_BIND, HOOK_LSM_LISTEN, &to, 0, 0);
}

#endif
