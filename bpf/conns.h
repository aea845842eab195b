/* SPDX-License-Identifier: GPL-2.0-only */
/* Whose a connection is, for the proxy at its other end. */
#ifndef CONNS_H
#define CONNS_H

enum { BPF_SOCK_OPS_TCP_CONNECT_CB = 3 };
enum { ETH_P_IP = 0x0800, ETH_P_IPV6 = 0x86dd };

static __always_inline void remember(struct conn_key *k)
{
	struct task_struct *t = current_task();
	struct conn c = {
		.start = READ(READ(t, group_leader), start_boottime),
		.time = bpf_ktime_get_boot_ns(),
		.tgid = READ(t, tgid),
		.uid = READ(READ(t, cred), uid.val),
	};

	c.proc = proc_of(c.tgid);
	bpf_map_update_elem(&conns, k, &c, 0);
}

/* connecting runs in connect(2), once the source port is chosen and before the
 * first packet. Only what another program of the sandbox accepts is left out. */
SEC("sockops")
int connecting(struct bpf_sock_ops *ctx)
{
	struct conn_key k = {.protocol = IPPROTO_TCP};
	__u32 *to = (__u32 *)k.daddr, *from = (__u32 *)k.saddr;

	if (ctx->op != BPF_SOCK_OPS_TCP_CONNECT_CB)
		return 1;
	to[0] = ctx->remote_ip6[0];
	to[1] = ctx->remote_ip6[1];
	to[2] = ctx->remote_ip6[2];
	to[3] = ctx->remote_ip6[3];
	from[0] = ctx->local_ip6[0];
	from[1] = ctx->local_ip6[1];
	from[2] = ctx->local_ip6[2];
	from[3] = ctx->local_ip6[3];
	if (ctx->family == AF_INET || is_mapped(k.daddr)) {
		mapped(k.daddr, ctx->remote_ip4);
		mapped(k.saddr, ctx->local_ip4);
	}
	k.dport = __builtin_bswap32(ctx->remote_port);
	k.sport = ctx->local_port;
	if (own_host(k.daddr) && k.dport != DNS)
		return 1;
	k.sandbox = sandbox_walk();
	if (k.sandbox)
		remember(&k);
	return 1;
}

static __always_inline int udp_ports(void *skb, __u32 at, struct conn_key *k)
{
	__u16 ports[2];

	if (bpf_skb_load_bytes(skb, at, ports, sizeof(ports)))
		return 0;
	k->sport = be16(ports[0]);
	k->dport = be16(ports[1]);
	return k->dport == DNS;
}

/* asking sees the questions to resolvers. It runs in whoever sends, so that a
 * socket that was connected by another process is no matter. */
SEC("cgroup_skb/egress")
int asking(struct __sk_buff *skb)
{
	struct conn_key k = {.protocol = IPPROTO_UDP};
	__u8 next = 0, first = 0;
	__u32 v4[2];
	int ok = 0;

	if (skb->protocol == be16(ETH_P_IP)) {
		bpf_skb_load_bytes(skb, 9, &next, 1);
		bpf_skb_load_bytes(skb, 0, &first, 1);
		if (next == IPPROTO_UDP && !bpf_skb_load_bytes(skb, 12, v4, sizeof(v4))) {
			mapped(k.saddr, v4[0]);
			mapped(k.daddr, v4[1]);
			ok = udp_ports(skb, (first & 15) * 4, &k);
		}
	} else if (skb->protocol == be16(ETH_P_IPV6)) {
		bpf_skb_load_bytes(skb, 6, &next, 1);
		if (next == IPPROTO_UDP && !bpf_skb_load_bytes(skb, 8, k.saddr, 16) &&
		    !bpf_skb_load_bytes(skb, 24, k.daddr, 16))
			ok = udp_ports(skb, 40, &k);
	}
	if (!ok)
		return 1;
	/* The reader of a question need not know which resolver was asked. */
	k.dport = 0;
	__builtin_memset(k.daddr, 0, sizeof(k.daddr));
	k.sandbox = sandbox_walk();
	if (k.sandbox)
		remember(&k);
	return 1;
}

#endif
