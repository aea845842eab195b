/* SPDX-License-Identifier: GPL-2.0-only */
/* One attempt, one tally; the first of a kind, one record. */
#ifndef RECORD_H
#define RECORD_H

/* tell_flags puts off waking the reader until there is much to read: a wakeup
 * costs twenty times the record. The reader looks by itself now and then. */
static __always_inline __u64 tell_flags(void)
{
	return bpf_ringbuf_query(&events, BPF_RB_AVAIL_DATA) >= wake_at ? BPF_RB_FORCE_WAKEUP : BPF_RB_NO_WAKEUP;
}

/* add_up counts a denial and reports whether it has to be told, filling in what
 * the record says of the count. */
static __noinline struct tally *add_up(struct denial *d)
{
	struct tally new = {.first = d->time, .last = d->time, .count = 1};

	count_at(COUNT_SEEN + (d->key.op & 31));
	d->first = d->time;
	d->count = 1;
	if (bpf_map_update_elem(&tallies, &d->key, &new, BPF_NOEXIST) == 0)
		return bpf_map_lookup_elem(&tallies, &d->key);
	struct tally *t = bpf_map_lookup_elem(&tallies, &d->key);
	if (!t)
		return 0;
	t->last = d->time;
	__sync_fetch_and_add(&t->count, 1);
	d->first = t->first;
	d->count = t->count;
	return t;
}

/* told ends a record that got into the ring buffer, or did not. */
static __always_inline void told(struct denial *d, struct tally *t, int ok)
{
	if (!ok)
		count_at(COUNT_RING_FULL + (d->key.op & 31));
	else if (t)
		t->told = 1;
	if (!t)
		count_at(COUNT_TABLE_FULL);
}

/* mix is one step of a hash: a multiplication by an odd constant and a fold. */
static __always_inline __u64 mix(__u64 h, __u64 v)
{
	h = (h ^ v) * 0x9e3779b97f4a7c15ULL;
	return h ^ h >> 32;
}

static __always_inline __u64 hash_addr(const struct addr *a)
{
	const __u64 *w = (const __u64 *)a;

	return mix(mix(mix(0, w[0]), w[1]), w[2]);
}

/* What a mark says instead of a call's number: a program may not know which call it
 * is in; io_uring makes none. */
enum { MARK_RING = 510, MARK_ANY = 1023, NO_CALL = 1024 };

/* mark notes that the call that fails now was recorded. */
static __always_inline void mark(__u64 now, __u32 nr)
{
	__u64 thread = thread_key();

	now = (now & ~1023ULL) | nr;
	if (nr != NO_CALL)
		bpf_map_update_elem(&marks, &thread, &now, 0);
}

/* hook_denial is what a program refused; name, if any, is the address of a unix
 * socket. */
struct hook_denial {
	struct denial d;
	__u8 name[SUN_PATH + 4];
};

static __always_inline void note(__u64 id, __u8 op, __u8 hook, const struct addr *to, const __u8 *name, __u32 nr, __u64 about)
{
	__u64 now = bpf_ktime_get_boot_ns();
	struct denial small = {.kind = KIND_DENIAL, .time = now};
	struct hook_denial *h;

	mark(now, nr); /* first: the call that fails now is this one */
	small.args[0] = about;
	small.to = *to;
	fill_who(&small.who);
	small.key.sandbox = id;
	small.key.proc = who_key(&small.who);
	small.key.object = mix(hash_addr(to), about);
	if (name)
		for (int i = 0; i < SUN_PATH; i += 4)
			small.key.object = mix(small.key.object, *(__u32 *)(name + i));
	small.key.err = -1;
	small.key.op = op;
	small.key.hook = hook;
	struct tally *t = add_up(&small);
	if (t && t->told)
		return;
	h = bpf_ringbuf_reserve(&events, sizeof(*h), 0);
	if (h) {
		h->d = small;
		__builtin_memset(h->name, 0, sizeof(h->name));
		if (name) {
			__builtin_memcpy(h->name, name, SUN_PATH);
			h->d.len[PART_NAME] = SUN_PATH;
			h->d.state[PART_NAME] = PART_WHOLE;
		}
		bpf_ringbuf_submit(h, tell_flags());
	}
	told(&small, t, h != 0);
}

/* hook_refused records what a cgroup program refused. */
static __always_inline void hook_refused(__u64 id, __u8 op, __u8 hook, const struct addr *to, const __u8 *name)
{
	note(id, op, hook, to, name, MARK_ANY, 0);
}

#endif
