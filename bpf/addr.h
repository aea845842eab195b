/* SPDX-License-Identifier: GPL-2.0-only */
/* Kinds of sockets, and addresses. */
#ifndef ADDR_H
#define ADDR_H

enum { AF_UNIX = 1, AF_INET = 2, AF_INET6 = 10, AF_PACKET = 17 };
enum { SOCK_STREAM = 1, SOCK_DGRAM = 2, SOCK_RAW = 3 };
enum { IPPROTO_ICMP = 1, IPPROTO_TCP = 6, IPPROTO_UDP = 17, IPPROTO_ICMPV6 = 58, IPPROTO_MPTCP = 262 };
enum { DNS = 53 };

/* mapped gives an IPv4 address its form among IPv6 ones (RFC 4291, 2.5.5.2). */
static __always_inline void mapped(__u8 *ip, __u32 v4)
{
	__builtin_memset(ip, 0, 10);
	ip[10] = ip[11] = 0xff;
	__builtin_memcpy(ip + 12, &v4, 4);
}

static __always_inline int is_mapped(const __u8 *ip)
{
	const __u32 *w = (const __u32 *)ip;

	return !w[0] && !w[1] && w[2] == __builtin_bswap32(0xffff);
}

/* own_host: loopback, or the unspecified address, which the kernel takes for it. */
static __always_inline int own_host(const __u8 *ip)
{
	const __u32 *w = (const __u32 *)ip;

	if (is_mapped(ip))
		return ip[12] == 127 || !w[3];
	return !w[0] && !w[1] && !w[2] && (!w[3] || w[3] == __builtin_bswap32(1));
}

static __always_inline int to_group(const __u8 *ip)
{
	return is_mapped(ip) ? ip[12] >= 224 : ip[0] == 0xff;
}

static __always_inline __u32 socket_bit(__u32 type, __u32 protocol)
{
	if (type == SOCK_STREAM)
		return protocol == IPPROTO_TCP ? SOCKET_TCP : protocol == IPPROTO_MPTCP ? SOCKET_MPTCP : 0;
	if (type != SOCK_DGRAM)
		return 0;
	return protocol == IPPROTO_UDP				     ? SOCKET_UDP
	       : protocol == IPPROTO_ICMP || protocol == IPPROTO_ICMPV6 ? SOCKET_PING
								     : 0;
}

static __always_inline __u8 op_of(__u32 type, __u32 protocol)
{
	switch (socket_bit(type, protocol)) {
	case SOCKET_TCP:
	case SOCKET_MPTCP:
		return OP_NET_CONNECT;
	case SOCKET_UDP:
		return OP_NET_UDP;
	case SOCKET_PING:
		return OP_NET_ICMP;
	}
	return OP_NET_RAW;
}

#endif
