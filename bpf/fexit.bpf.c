//go:build ignore

// SPDX-License-Identifier: GPL-2.0-only
/* Refused calls, seen at the functions that refuse them: what sys_exit sees, without
 * a cost to every other call, and what io_uring does, which is no call. An object of
 * its own, since not every kernel takes it; the maps that have the name of one in
 * sallyport.bpf.c are the same. */
#define POOL fexit_pool
#include "vmlinux.h"
#include "helpers.h"
#include "event.h"
#include "calls.h"
#include "maps.h"
#include "scratch.h"
#include "task.h"
#include "record.h"
#include "ring.h"
#include "walk.h"
#include "addr.h"
#include "sock.h"
#include "hash.h"
#include "trace.h"
#include "exitsock.h"
#include "exit.h"
#include "fexit.h"
#include "copies.h"
#include "work.h"
#include "names.h"
#include "works.h"
#include "preempt.h"

char LICENSE[] SEC("license") = "GPL";
