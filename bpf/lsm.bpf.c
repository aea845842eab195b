//go:build ignore

// SPDX-License-Identifier: GPL-2.0-only
/* LSM programs, which refuse what nothing else can. An object of their own, so
 * that a kernel without them has nothing to do with them; the maps that have the
 * name of one in sallyport.bpf.c are the same. */
#define POOL
#include "vmlinux.h"
#include "helpers.h"
#include "event.h"
#include "maps.h"
#include "scratch.h"
#include "task.h"
#include "record.h"
#include "walk.h"
#include "addr.h"
#include "lsm.h"
#include "lsmsock.h"
#include "lsmunix.h"
#include "lsmproc.h"

char LICENSE[] SEC("license") = "GPL";
