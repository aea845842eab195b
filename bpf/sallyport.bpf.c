//go:build ignore

// SPDX-License-Identifier: GPL-2.0-only
/* All programs are one object, since they share their maps; the loader leaves
 * out those that a kernel does not know. */
#include "vmlinux.h"
#include "helpers.h"
#include "event.h"
#include "calls.h"
#include "maps.h"
#include "scratch.h"
#include "task.h"
#include "record.h"
#include "walk.h"
#include "proc.h"
#include "addr.h"
#include "sock.h"
#include "connect.h"
#include "sockopt.h"
#include "conns.h"
#include "unix.h"
#include "hash.h"
#include "trace.h"
#include "exitsock.h"
#include "exit.h"
#include "sysexit.h"

char LICENSE[] SEC("license") = "GPL";

/* Enums that no program's type mentions are made to appear in the BTF. */
const volatile struct {
	enum abi abi;
	enum op op;
	enum hook hook;
	enum kind kind;
	enum part_state part_state;
	enum part part;
	enum counter counter;
	enum sandbox_flag sandbox_flag;
	enum socket_bit socket_bit;
	enum call_id call_id;
	struct gone gone;
} for_go;
