/* SPDX-License-Identifier: GPL-2.0-only */
/* Refused system calls upon sockets: what the socket and its address say. */
#ifndef EXITSOCK_H
#define EXITSOCK_H

static __always_inline __u8 op_of_socket(const struct denial *d)
{
	int binds = d->key.call == CALL_BIND;

	if (d->key.call == CALL_SETSOCKOPT)
		return OP_NET_SOCKET;
	if (d->to.family == AF_UNIX)
		return binds ? OP_FILE_CREATE : OP_UNIX_CONNECT;
	if (d->to.family != AF_INET && d->to.family != AF_INET6)
		return OP_NET_SOCKET;
	return binds || d->key.call == CALL_LISTEN ? OP_NET_BIND : op_of(d->to.type, d->to.protocol);
}

/* about_socket fills in what the socket itself says, its peer included. */
static __noinline int about_socket(struct denial *d, __s32 fd)
{
	struct sock *sk = sock_of(file_of(fd));

	if (!sk)
		return 0;
	d->to.family = READ(sk, __sk_common.skc_family);
	d->to.type = READ(sk, sk_type);
	d->to.protocol = READ(sk, sk_protocol);
	if (d->to.family == AF_INET) {
		mapped(d->to.ip, READ(sk, __sk_common.skc_daddr));
		d->to.port = be16(READ(sk, __sk_common.skc_dport));
	} else if (d->to.family == AF_INET6) {
		bpf_probe_read_kernel(d->to.ip, 16, __builtin_preserve_access_index(&sk->__sk_common.skc_v6_daddr));
		d->to.port = be16(READ(sk, __sk_common.skc_dport));
	}
	return 1;
}

/* put_addr reads a socket address of the process's. */
static __noinline void put_addr(struct scratch *s, const void *from, __u32 len)
{
	__u8 raw[28] = {};
	struct addr *to = &s->d.to;

	if (!from || !len)
		return;
	__u32 n = len;
	BOUND(n, (__u32)sizeof(raw));
	if (bpf_probe_read_user(raw, n, from)) {
		s->d.state[PART_NAME] = PART_UNREADABLE;
		return;
	}
	__u16 family = *(__u16 *)raw;
	if (family == AF_UNIX) {
		len = len < 2 ? 0 : len - 2;
		BOUND(len, SUN_PATH);
		if (s->used > DATA_MAX - PATH_MAX || bpf_probe_read_user(s->data + s->used, len, from + 2))
			return;
		put(s, PART_NAME, s->used, PART_WHOLE);
		s->d.len[PART_NAME] = len;
		hash_data(SLOT(s), s->used, len);
		s->used += len;
		return;
	}
	if (family == AF_INET6)
		__builtin_memcpy(to->ip, raw + 8, 16);
	else if (family == AF_INET)
		mapped(to->ip, *(__u32 *)(raw + 4));
	to->port = be16(*(__u16 *)(raw + 2));
}

static __noinline int collect_socket(struct scratch *s, __u8 shape, __u8 a, __u8 d)
{
	struct denial *r = &s->d;
	struct {
		void *name;
		__u32 len;
	} msg = {};

	if (!about_socket(r, arg(r, shape == SHAPE_IO ? d : 0)))
		return shape != SHAPE_IO; /* write(2) and its like on a file: no denial */
	if (shape == SHAPE_ADDR)
		put_addr(s, (void *)arg(r, a), arg(r, d));
	if (shape == SHAPE_MSG && !bpf_probe_read_user(&msg, 12, (void *)arg(r, a)))
		put_addr(s, msg.name, msg.len);
	r->key.op = op_of_socket(r);
	r->key.object = mix(r->key.object, hash_addr(&r->to));
	return 1;
}

#endif
