/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Rules about names of files, per sandbox: what package plan's FileTable says, in
 * maps. A tree of literal paths, and patterns as positions, each of which waits
 * for one component of a path.
 */
#ifndef FILES_H
#define FILES_H

enum { FILE_WORDS = 2, FILE_WILDS = 24, FILE_DEPTH = 256 };

/* Nodes that are none of the tree's. */
enum file_node {
	NODE_ROOT = 0,
	NODE_WORD = 0xfffffffd, /* names that positions wait for */
	NODE_FOLD = 0xfffffffe, /* and those in small letters */
	NODE_NONE = 0xffffffff, /* no literal path begins like this one */
};

/* What the tree says of a path. */
enum file_flag {
	FILE_HIDE = 1,
	FILE_SHOW = 2,
	FILE_SEAL = 4,
	FILE_PROTECT = 8,
	FILE_ROOT = 16,
	FILE_PRIVATE = 32,
	FILE_HOLDS = 64,
	FILE_GLOBS = 128,
};

/* What a name is to git: flags of a word in small letters. */
enum git_name {
	GIT_HEAD = 1,
	GIT_OBJECTS = 2,
	GIT_REFS = 4,
	GIT_PLANT = 7,
	GIT_DIR = 8,   /* .git */
	GIT_INNER = 16, /* modules, worktrees: what stands in .git may look like a repository */
};

/* A name is its hash: a polynomial whose parts can be compared, too. Names that
 * have the same are refused alike. */
#define FILE_HASH 0x9e3779b97f4a7c15ULL

struct places {
	__u64 w[FILE_WORDS];
};

struct file_key {
	__u64 sandbox;
	__u64 name;
	__u32 node;
	__u32 reserved;
};

struct file_value {
	struct places places;
	__u32 to;
	__u32 flags;
};

/* All names that begin and end in a certain way; shift is what the hash of the
 * beginning is multiplied with where the end follows. */
struct file_wild {
	__u64 before, after, shift;
	struct places places;
	__u8 before_len, after_len, fold, reserved[5];
};

struct file_box {
	struct places start, loop, last, hold, glob_hold;
	struct places hide, show, protect, root, name, name_dir, name_hold, git_file;
	struct places reads; /* of patterns that have a say in reading */
	struct places wilded; /* that wait for a name with a wildcard */
	__u32 flags;	     /* of "/" */
	__u32 wilds;
	__u32 words; /* there are names to look for as they are written */
	__u32 bare;
	struct file_wild wild[FILE_WILDS];
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u64);
	__type(value, struct file_box);
} file_boxes SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1 << 18);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct file_key);
	__type(value, struct file_value);
} file_names SEC(".maps");

/* Directories in which parts of a repository were made. Not an LRU table: what is
 * forgotten could be planted. */
struct plant_key {
	__u64 sandbox;
	__u64 ino;
	__u32 dev;
	__u32 reserved;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1 << 16);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct plant_key);
	__type(value, __u32);
} plants SEC(".maps");

static __always_inline __u64 meet(const struct places *a, const struct places *b)
{
	return (a->w[0] & b->w[0]) | (a->w[1] & b->w[1]);
}

#endif
