//go:build ignore

// SPDX-License-Identifier: GPL-2.0-only
/* LSM programs, which refuse what nothing else can. An object of their own, so
 * that a kernel without them has nothing to do with them; the maps that have the
 * name of one in sallyport.bpf.c are the same. */
#define POOL pool
#include "vmlinux.h"
#include "helpers.h"
#include "event.h"
#include "maps.h"
#include "scratch.h"
#include "task.h"
#include "record.h"
#include "ring.h"
#include "walk.h"
#include "addr.h"
#include "lsm.h"
#include "lsmsock.h"
#include "lsmunix.h"
#include "lsmproc.h"
#include "files.h"
#include "follow.h"
#include "judge.h"
#include "lsmfile.h"
#include "lsmfile2.h"

char LICENSE[] SEC("license") = "GPL";

/* Enums that no program's type mentions are made to appear in the BTF. */
const volatile struct {
	enum file_node file_node;
	enum git_name git_name;
	enum file_why file_why;
} for_go;
