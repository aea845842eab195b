/* SPDX-License-Identifier: GPL-2.0-only */
/* What tells one object from another. */
#ifndef HASH_H
#define HASH_H

enum { PATH_MAX = 4096 };

/* hashing is a hash in progress. */
struct hashing {
	struct scratch *s;
	__u64 h;
	__u32 at, left;
};

static __always_inline int hash_on(struct hashing *c)
{
	__u32 at = c->at;

	if (!c->left || at > DATA_MAX - 8)
		return 1;
	BOUND(at, DATA_MAX - 8);
	__u64 w = *(__u64 *)(c->s->data + at);
	if (c->left < 8)
		w &= (1ULL << c->left * 8) - 1;
	c->h = mix(c->h, w);
	c->left = c->left < 8 ? 0 : c->left - 8;
	c->at += 8;
	return 0;
}

static long hash_turn(__u32 i, void *state)
{
	return hash_on(state);
}

/* hash_data mixes a part of the data into the object's hash. It is global for
 * the same reason as walk. */
__attribute__((noinline)) int hash_data(__u32 which, __u32 from, __u32 n)
{
	struct hashing c = {.s = scratch(which), .h = n, .at = from, .left = n};

	if (!c.s)
		return 0;
	if (has_loop)
		bpf_loop(PATH_MAX / 8, hash_turn, &c, 0);
	else
		for (int i = 0; i < PATH_MAX / 8; i++)
			if (hash_on(&c))
				break;
	c.s->d.key.object = mix(c.s->d.key.object, c.h);
	return 0;
}

#endif
