/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * System calls that move bytes at sockets: which they are, and where their bytes lie in the
 * memory of the process.
 */
#ifndef OTEL_TAP_SOCKET_CALLS_H
#define OTEL_TAP_SOCKET_CALLS_H

#include "arch.h"
#include <asm/unistd.h>

#include "look.h"
#include "state.h"

enum call_kind {
	CALL_BUFFER = 1, /* buffer, length */
	CALL_VECTOR,	 /* iovec, count */
	CALL_MESSAGE,	 /* msghdr */
	CALL_MESSAGES,	 /* mmsghdr, count: returns a number of messages */
	CALL_IN_KERNEL,	 /* bytes that never lie in the process's memory */
	CALL_UNKNOWN,	 /* nobody knows where they lie */
};

struct socket_call {
	__u64 sk;
	__u64 socket_id;
	__u64 pointer;
	__u64 count;
	__u64 result;
	__u32 flags;
	__s32 fd;
	__u32 kind;
	__u32 direction;
	__u32 sequence; /* TCP's, behind the last byte of the call */
};

/* Not on the stack, which is short where functions call functions. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct socket_call);
} socket_calls SEC(".maps");

static __always_inline struct socket_call *current_socket_call(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&socket_calls, &zero);
}

static __always_inline struct socket_call *new_socket_call(void)
{
	struct socket_call *call = current_socket_call();

	if (call)
		__builtin_memset(call, 0, sizeof(*call));
	return call;
}

/* A system call in 32 bits, 0 for one that moves no bytes at sockets. */
#define SHAPE(kind, direction, flags_argument, fd_argument)                                        \
	((kind) | (direction) << 4 | (flags_argument) << 8 | (fd_argument) << 12)
#define SHAPE_KIND(shape)	    ((shape) & 0xf)
#define SHAPE_DIRECTION(shape)	    ((shape) >> 4 & 1)
#define SHAPE_FLAGS_ARGUMENT(shape) ((shape) >> 8 & 3) /* 0: it has no flags */
#define SHAPE_FD_ARGUMENT(shape)    ((shape) >> 12 & 3)

static __always_inline __u32 shape_of_call(long number)
{
	switch (number) {
	case __NR_read:
		return SHAPE(CALL_BUFFER, OT_INGRESS, 0, 0);
	case __NR_recvfrom:
		return SHAPE(CALL_BUFFER, OT_INGRESS, 3, 0);
	case __NR_write:
	case __NR_sendto:
		return SHAPE(CALL_BUFFER, OT_EGRESS, 0, 0);
	case __NR_readv:
	case __NR_preadv2:
		return SHAPE(CALL_VECTOR, OT_INGRESS, 0, 0);
	case __NR_writev:
	case __NR_pwritev2:
		return SHAPE(CALL_VECTOR, OT_EGRESS, 0, 0);
	case __NR_recvmsg:
		return SHAPE(CALL_MESSAGE, OT_INGRESS, 2, 0);
	case __NR_sendmsg:
		return SHAPE(CALL_MESSAGE, OT_EGRESS, 0, 0);
	case __NR_recvmmsg:
		return SHAPE(CALL_MESSAGES, OT_INGRESS, 3, 0);
	case __NR_sendmmsg:
		return SHAPE(CALL_MESSAGES, OT_EGRESS, 0, 0);
	case __NR_sendfile:
		return SHAPE(CALL_IN_KERNEL, OT_EGRESS, 0, 0);
	case __NR_splice: /* fd_in, off_in, fd_out, off_out */
		return SHAPE(CALL_IN_KERNEL, OT_EGRESS, 0, 2);
	}
	return 0;
}

/* Points the transfer at the memory of one message. */
static __always_inline int point_at_message(struct transfer *transfer, __u64 pointer)
{
	struct user_msghdr message;

	if (bpf_probe_read_user(&message, sizeof(message), (void *)pointer))
		return -1;
	transfer->vector = message.iov;
	transfer->vector_left = message.iov_count;
	return 0;
}

static __always_inline int point_at_memory(struct transfer *transfer,
					   const struct socket_call *call)
{
	transfer->vector = 0;
	transfer->vector_left = 0;
	transfer->piece = 0;
	transfer->piece_left = 0;
	if (call->kind == CALL_BUFFER) {
		transfer->piece = call->pointer;
		transfer->piece_left = transfer->left;
	} else if (call->kind == CALL_VECTOR) {
		transfer->vector = call->pointer;
		transfer->vector_left = call->count;
	} else if (call->kind == CALL_MESSAGE || call->kind == CALL_MESSAGES) {
		return point_at_message(transfer, call->pointer);
	}
	return 0;
}

/* Where a transfer begins: its first vector element that is not empty. */
static __always_inline int first_piece(struct user_iovec *out, const struct transfer *transfer)
{
	int i;

	out->base = transfer->piece;
	out->length = transfer->left;
	if (!transfer->vector)
		return out->base ? 0 : -1;
	for (i = 0; i < 4; i++) {
		if (i >= transfer->vector_left ||
		    bpf_probe_read_user(out, sizeof(*out),
					(void *)(transfer->vector + i * sizeof(*out))))
			return -1;
		if (out->length) {
			if (out->length > transfer->left)
				out->length = transfer->left;
			return 0;
		}
	}
	return -1;
}

#endif
