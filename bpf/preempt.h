/* SPDX-License-Identifier: GPL-2.0-only */
/* Whether the kernel preempts its own functions. */
#ifndef PREEMPT_H
#define PREEMPT_H

/* Of kernels that choose when they boot (CONFIG_PREEMPT_DYNAMIC, Linux 5.12). */
extern void preempt_dynamic_mode __attribute__((section(".ksyms"), weak));

/* preempt_mode gives none (0), voluntary (1), full (2), lazy (3), or -1. */
SEC("syscall")
int preempt_mode(void *ctx)
{
	int mode;

	return bpf_probe_read_kernel(&mode, sizeof(mode), &preempt_dynamic_mode) < 0 ? -1 : mode;
}

#endif
