// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Bytes at TCP sockets, taken where a system call returns: for kernels before 6.3, which do not
 * say when a socket moved bytes. Every system call of the host pays for it.
 */
#include "socket_bytes.h"

SEC("raw_tp/sys_exit")
int socket_syscall_exit(struct bpf_raw_tracepoint_args *ctx)
{
	const struct pt_regs *regs = (const struct pt_regs *)ctx->args[0];
	long result = ctx->args[1];
	struct syscall_arguments args;
	struct socket_of_fd found;
	struct socket_call *call;
	__u32 shape;

	if (result < 0)
		return 0;
	shape = shape_of_call(syscall_number(regs));
	if (!shape || !is_watched(bpf_get_current_pid_tgid() >> 32) ||
	    syscall_arguments(regs, &args))
		return 0;
	call = new_socket_call();
	if (!call)
		return 0;
	call->fd = SHAPE_FD_ARGUMENT(shape) ? args.arg[2] : args.arg[0];
	if (!find_socket(&found, call->fd))
		return 0;
	call->sk = (__u64)found.sk;
	call->socket_id = found.id;
	call->pointer = args.arg[1];
	call->count = args.arg[2];
	call->kind = SHAPE_KIND(shape);
	call->direction = SHAPE_DIRECTION(shape);
	if (SHAPE_FLAGS_ARGUMENT(shape) == 2)
		call->flags = args.arg[2];
	else if (SHAPE_FLAGS_ARGUMENT(shape) == 3)
		call->flags = args.arg[3];
	call->result = result;
	if (!result) {
		if (call->direction == OT_INGRESS && call->count && !(call->flags & MSG_PEEK))
			socket_end(call);
		return 0;
	}
	call->sequence = stream_sequence(found.sk, call->direction);
	socket_bytes();
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
