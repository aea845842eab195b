/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef MAPS_H
#define MAPS_H

/* By cgroup: what is not in here is no sandbox. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, __u64);
	__type(value, struct sandbox);
} sandboxes SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, 65536);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct unix_key);
	__type(value, __u32);
} unix_names SEC(".maps");

/* Processes inside sandboxes. Not preallocated: few machines ever have many. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 32768);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u64);
	__type(value, struct proc);
} procs SEC(".maps");

/* From a process's number to its key in procs. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u32);
	__type(value, __u64);
} pids SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 65536);
	__type(key, struct conn_key);
	__type(value, struct conn);
} conns SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, struct tally_key);
	__type(value, struct tally);
} tallies SEC(".maps");

/* Threads whose call a program has just refused and recorded, when, and in the
 * last ten bits which call: sys_exit leaves these alone. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 8192);
	__type(key, __u64);
	__type(value, __u64);
} marks SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4 << 20);
} events SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, COUNTERS);
	__type(key, __u32);
	__type(value, __u64);
} counters SEC(".maps");

/* The depth of a sandbox's cgroup in the hierarchy, and the cgroup above all of
 * them; from how many bytes in the
 * ring buffer on the reader is woken; whether the kernel has bpf_loop (5.17), and
 * bpf_get_current_ancestor_cgroup_id for tracing (5.11). */
const volatile __u32 level = 1;
const volatile __u64 parent = 0;
const volatile __u64 wake_at = 1 << 20;
const volatile __u8 has_loop = 0;
const volatile __u8 has_ancestor = 0;

#endif
