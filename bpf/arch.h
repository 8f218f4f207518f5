/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * System call number and arguments of the interrupted task, per architecture.
 *
 * The saved registers hold the arguments until the call has returned, so the entry needs no probe
 * of its own.
 */
#ifndef OTEL_TAP_ARCH_H
#define OTEL_TAP_ARCH_H

#include <linux/types.h>
#include <linux/ptrace.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

#include "kernel_types.h"

struct syscall_arguments {
	__u64 arg[5];
};

#define USER_CODE_64 0x33 /* code segment of 64-bit programs on x86 */
#define PSTATE_32    0x10 /* of a 32-bit program on arm64 */

#if defined(__TARGET_ARCH_x86)

/* The same two from registers that the verifier knows as such: plain loads instead of copies. */
static __always_inline long known_syscall_number(const struct pt_regs___kernel *regs)
{
	return regs->cs == USER_CODE_64 ? (long)regs->orig_ax : -1;
}

static __always_inline void known_syscall_arguments(const struct pt_regs___kernel *regs,
						    struct syscall_arguments *out)
{
	out->arg[0] = regs->di;
	out->arg[1] = regs->si;
	out->arg[2] = regs->dx;
	out->arg[3] = regs->r10;
	out->arg[4] = regs->r8;
}

/* r10 r9 r8 rax rcx rdx rsi rdi | orig_rax rip cs: two neighbouring runs of struct pt_regs. */
static __always_inline long syscall_number(const struct pt_regs *regs)
{
	__u64 run[3];

	if (bpf_probe_read_kernel(run, sizeof(run), &regs->orig_rax))
		return -1;
	if (run[2] != USER_CODE_64) /* a 32-bit task: its numbers mean something else */
		return -1;
	return run[0];
}

static __always_inline int syscall_arguments(const struct pt_regs *regs,
					     struct syscall_arguments *out)
{
	__u64 run[8];

	if (bpf_probe_read_kernel(run, sizeof(run), &regs->r10))
		return -1;
	out->arg[0] = run[7];
	out->arg[1] = run[6];
	out->arg[2] = run[5];
	out->arg[3] = run[0];
	out->arg[4] = run[2];
	return 0;
}

#elif defined(__TARGET_ARCH_arm64)

static __always_inline long known_syscall_number(const struct pt_regs___kernel *regs)
{
	return regs->pstate & PSTATE_32 ? -1 : regs->syscallno;
}

static __always_inline void known_syscall_arguments(const struct pt_regs___kernel *regs,
						    struct syscall_arguments *out)
{
	out->arg[0] = regs->orig_x0;
	out->arg[1] = regs->regs[1];
	out->arg[2] = regs->regs[2];
	out->arg[3] = regs->regs[3];
	out->arg[4] = regs->regs[4];
}

struct arm64_kernel_regs {
	__u64 regs[31];
	__u64 sp;
	__u64 pc;
	__u64 pstate;
	__u64 orig_x0;
	__s32 syscallno;
};

static __always_inline long syscall_number(const void *regs)
{
	const struct arm64_kernel_regs *kernel_regs = regs;
	__u64 pstate;
	__s32 number;

	if (bpf_probe_read_kernel(&pstate, sizeof(pstate), &kernel_regs->pstate) ||
	    bpf_probe_read_kernel(&number, sizeof(number), &kernel_regs->syscallno))
		return -1;
	if (pstate & PSTATE_32) /* a 32-bit task: its numbers mean something else */
		return -1;
	return number;
}

static __always_inline int syscall_arguments(const void *regs, struct syscall_arguments *out)
{
	const struct arm64_kernel_regs *kernel_regs = regs;

	if (bpf_probe_read_kernel(out->arg, sizeof(out->arg), kernel_regs->regs) ||
	    bpf_probe_read_kernel(&out->arg[0], sizeof(out->arg[0]), &kernel_regs->orig_x0))
		return -1;
	return 0;
}

#else
#error "no system call registers known for this architecture"
#endif

#endif
