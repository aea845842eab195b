/* SPDX-License-Identifier: GPL-2.0-only */
/* Refused names, at what does the work of system calls and of io_uring alike. The
 * calls that come this way have no program of their own. */
#ifndef NAMES_H
#define NAMES_H

enum { FMODE_EXEC = 32, AT_REMOVEDIR = 0x200, PF_DUMPCORE = 0x200 };

/* Whether names outlive the functions that are given them. */
const volatile __u8 names_stay = 0;

/* attempt is what a function was given. */
struct attempt {
	__u64 args[6]; /* as the system call of number nr has them, but for names */
	struct filename *a, *b;
	__u64 flags; /* to open with */
	__u32 nr;
	__s32 ret;
	__u8 work;
	__u8 copied; /* where names do not stay */
};

/* describe_name fills in the record. */
static __always_inline int describe_name(struct scratch *s, const struct attempt *t)
{
	const volatile struct call *c = &calls[t->nr & 511];
	struct copy *copy = t->copied && !names_stay ? find_copy(thread_key()) : 0;
	struct denial *d = &s->d;
	const void *a = copy ? (void *)copy->a : (void *)0, *b = copy ? (void *)copy->b : (void *)0;

	if (!t->copied || names_stay) {
		a = READ(t->a, name);
		b = t->b ? READ(t->b, name) : (void *)0;
	}
	if (t->work == WORK_OPEN)
		d->key.op = d->key.err == -EXDEV || d->key.err == -EBUSY ? OP_NONE : op_of_open(t->flags);
	else
		d->key.op = refine(d, c->op);
	if (d->key.op == OP_NONE)
		return 0;
	put_name(s, PART_NAME, a, folder(c->d, arg(d, c->d)), 1);
	if (!a)
		d->state[PART_NAME] = PART_UNREADABLE;
	if (c->a2 != NO)
		put_name(s, PART_NAME2, b, folder(c->d2, arg(d, c->d2)), 1);
	return 1;
}

/* by_call: the attempt is that of the system call that is being made; else it is
 * io_uring's. */
static __always_inline int by_call(const struct attempt *t, __u32 nr)
{
	__u8 work = nr < ABSENT ? work_of(calls[nr].id) : WORK_NONE;

	return (work & 15) == t->work || work >> 4 == t->work;
}

static __always_inline int record_name(struct scratch *s, const struct attempt *t, __u32 nr)
{
	struct denial *d = &s->d;

	/* LSM programs refuse names so; those at sockets have nothing to do with them. */
	if (t->ret == -EACCES && marked(d->time, mark_of(nr), t->ret))
		return 0;
	__builtin_memcpy(d->args, t->args, sizeof(d->args));
	d->nr = t->nr;
	if (by_call(t, nr))
		d->nr = nr;
	else
		d->key.hook = HOOK_RING;
	d->key.call = calls[d->nr & 511].id;
	return describe_name(s, t) ? finish(s, t->nr) : 0;
}

/* refused_name records what one of the functions below was refused. */
static __noinline int refused_name(const struct attempt *t)
{
	__u64 id;

	if (elsewhere() || READ(current_task(), flags) & PF_DUMPCORE) /* the kernel writes, not the process */
		return 0;
	struct sandbox *sb = recorded(&id);
	if (!sb)
		return 0;
	__u32 nr = call_now();
	__u32 slot = take();
	struct scratch *s = slot < NO_SLOT ? scratch(slot) : 0;
	if (!s)
		return unrecorded(calls[t->nr & 511].op);
	start(s, id, t->ret, HOOK_NAME);
	if (nr != NO_CALL && compat(current_task(), nr)) {
		s->d.nr = nr;
		by_other_door(s, nr);
	} else {
		record_name(s, t, nr);
	}
	give_back(slot);
	return 0;
}

/* done is for the end of a function; it frees the copy that there may be. */
static __always_inline int done(const struct attempt *t)
{
	if (is_refusal(t->ret))
		refused_name(t);
	if (names_stay || !t->copied || elsewhere())
		return 0;
	struct copy *c = find_copy(thread_key());
	if (c)
		c->thread = 0;
	return 0;
}

#endif
