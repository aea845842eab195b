/* SPDX-License-Identifier: GPL-2.0-only */
/* Unix sockets, by whose the other end is. A supervisor that connects in a
 * process's place decides by itself. */
#ifndef LSMUNIX_H
#define LSMUNIX_H

/* Sockets of others that a sandbox may reach: names from the leaf to the root, as
 * seen from where they were made. bits is 0. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct unix_key);
	__type(value, __u32);
} unix_peers SEC(".maps");

/* listed: the policy names the file that a socket is bound to. */
static __noinline int listed(struct sock *peer, __u64 id)
{
	struct unix_sock *u = (void *)peer;
	struct unix_key k = {};
	__u32 slot = take();
	struct scratch *s = slot < NO_SLOT ? scratch(slot) : 0;
	int found = 0;

	if (!s)
		return 0;
	put_walk(s, slot, PART_DIR, __builtin_preserve_access_index(&u->path));
	__u32 n = s->used;
	if (s->d.state[PART_DIR] != PART_CUT && n > 0 && n <= SUN_PATH) {
		BOUND(n, SUN_PATH);
		bpf_probe_read_kernel(k.path, n, s->data);
		__builtin_memcpy(k.sandbox, &id, sizeof(id));
		found = bpf_map_lookup_elem(&unix_peers, &k) != 0;
	}
	give_back(slot);
	return found;
}

/* put_bound appends what a socket was bound to, as given then. */
static __always_inline void put_bound(struct scratch *s, struct sock *sk)
{
	struct unix_sock *u = (void *)sk;
	struct unix_address *a = READ(u, addr);
	__u32 len = READ(a, len);

	if (!a || len <= 2)
		return;
	len -= 2;
	BOUND(len, SUN_PATH);
	if (bpf_probe_read_kernel(s->data, len, (void *)a + OFFSET(struct unix_address, name) + 2))
		return;
	s->used = len;
	put(s, PART_NAME, 0, PART_WHOLE);
}

static __noinline int refuse_peer(struct sock *sk, struct sock *peer, __u64 id, __u32 hook)
{
	__u32 slot = take();
	struct scratch *s = slot < NO_SLOT ? scratch(slot) : 0;

	if (!s)
		return unrecorded(OP_UNIX_CONNECT);
	begin(&s->d, id, OP_UNIX_CONNECT, hook);
	describe_sock(&s->d.to, sk);
	put_bound(s, peer);
	put_cwd(s, slot);
	tell(s, (__u64)peer);
	give_back(slot);
	return -EPERM;
}

static __always_inline int reach_peer(struct sock *sk, struct sock *peer, __u8 hook)
{
	__u64 id;
	struct sandbox *sb = confined(&id);

	if (!sb || sb->flags & SANDBOX_ANY_UNIX || !foreign(peer, id) || listed(peer, id))
		return 0;
	return refuse_peer(sk, peer, id, hook);
}

SEC("lsm/unix_stream_connect")
int lsm_unix_stream(__u64 *ctx)
{
	int before = ctx[3];

	return before ? before : reach_peer((void *)ctx[0], (void *)ctx[1], HOOK_LSM_UNIX_STREAM);
}

SEC("lsm/unix_may_send")
int lsm_unix_send(__u64 *ctx)
{
	struct socket *from = (void *)ctx[0], *to = (void *)ctx[1];
	int before = ctx[2];

	if (before || elsewhere())
		return before;
	return reach_peer(READ(from, sk), READ(to, sk), HOOK_LSM_UNIX_SEND);
}

#endif
