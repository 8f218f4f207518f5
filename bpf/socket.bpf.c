// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Bytes at TCP sockets, taken where a system call returns.
 *
 * Plain HTTP is recognised by its first bytes and copied; anything else costs a look. A socket
 * used inside a TLS call is bound to that call's session when TLS records are seen in it.
 */
#include "arch.h"
#include <asm/unistd.h>

#include "look.h"
#include "sessions.h"
#include "sockets.h"
#include "state.h"

#define MSG_PEEK     0x2
#define MSG_TRUNC    0x20
#define MSG_ERRQUEUE 0x2000

#define TLS_RECORD_HEADER 5

/* Records of one send that are looked up, and sends of a socket that are looked at. */
#define MAX_RECORDS	  4
#define MAX_BINDING_SENDS 64

#define MAX_MESSAGES 8

enum call_kind {
	CALL_BUFFER,	/* buffer, length */
	CALL_VECTOR,	/* iovec, count */
	CALL_MESSAGE,	/* msghdr */
	CALL_MESSAGES,	/* mmsghdr, count: returns a number of messages */
	CALL_IN_KERNEL, /* bytes that never lie in the process's memory */
};

struct socket_call {
	__u64 pointer;
	__u64 count;
	__u64 flags;
	__u64 result;
	__u32 fd;
	__u32 kind;
	__u32 direction;
};

/* Which call this is; 0 for any other system call. */
static __always_inline int classify(struct socket_call *call, long number,
				    const struct syscall_arguments *args)
{
	call->fd = args->arg[0];
	call->pointer = args->arg[1];
	call->count = args->arg[2];
	call->flags = 0;
	call->direction = OT_INGRESS;
	call->kind = CALL_BUFFER;
	switch (number) {
	case __NR_recvfrom:
		call->flags = args->arg[3];
		return 1;
	case __NR_read:
		return 1;
	case __NR_sendto:
	case __NR_write:
		call->direction = OT_EGRESS;
		return 1;
	case __NR_writev:
	case __NR_pwritev2:
		call->direction = OT_EGRESS;
		call->kind = CALL_VECTOR;
		return 1;
	case __NR_readv:
	case __NR_preadv2:
		call->kind = CALL_VECTOR;
		return 1;
	case __NR_sendmsg:
		call->direction = OT_EGRESS;
		call->kind = CALL_MESSAGE;
		return 1;
	case __NR_recvmsg:
		call->flags = args->arg[2];
		call->kind = CALL_MESSAGE;
		return 1;
	case __NR_sendmmsg:
		call->direction = OT_EGRESS;
		call->kind = CALL_MESSAGES;
		return 1;
	case __NR_recvmmsg:
		call->flags = args->arg[3];
		call->kind = CALL_MESSAGES;
		return 1;
	case __NR_sendfile:
		call->direction = OT_EGRESS;
		call->kind = CALL_IN_KERNEL;
		return 1;
	case __NR_splice: /* fd_in, off_in, fd_out, off_out */
		call->direction = OT_EGRESS;
		call->fd = args->arg[2];
		call->kind = CALL_IN_KERNEL;
		return 1;
	}
	return 0;
}

/* Only numbers that classify() knows; everything else leaves here after two instructions. */
static __always_inline int is_candidate(long number)
{
	switch (number) {
	case __NR_read:
	case __NR_write:
	case __NR_readv:
	case __NR_writev:
	case __NR_preadv2:
	case __NR_pwritev2:
	case __NR_recvfrom:
	case __NR_sendto:
	case __NR_recvmsg:
	case __NR_sendmsg:
	case __NR_recvmmsg:
	case __NR_sendmmsg:
	case __NR_sendfile:
	case __NR_splice:
		return 1;
	}
	return 0;
}

/* A global function: verified once, not once per path that leads to it. */
__noinline int emit_socket_transfer(__u32 index)
{
	struct transfer *transfer = bpf_map_lookup_elem(&transfers, &index);

	if (transfer)
		emit_transfer(transfer);
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
	transfer->piece = 0;
	transfer->piece_left = 0;
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

/* The first bytes of a transfer, from the first vector element that is not empty. */
static __always_inline int peek(struct first_bytes *first, __u64 *length,
				const struct transfer *transfer)
{
	struct user_iovec element;
	int i;

	*length = transfer->left;
	if (!transfer->vector)
		return transfer->piece ? read_first_bytes(first, transfer->piece, *length) : -1;
	for (i = 0; i < 4; i++) {
		if (i >= transfer->vector_left ||
		    bpf_probe_read_user(&element, sizeof(element),
					(void *)(transfer->vector + i * sizeof(element))))
			return -1;
		if (element.length) {
			if (element.length < *length)
				*length = element.length;
			return read_first_bytes(first, element.base, *length);
		}
	}
	return -1;
}

static __always_inline void bind_session(struct session *session, struct socket_state *state,
					 __u64 socket_id, __u32 fd, __u32 tgid, __u8 evidence)
{
	session->socket_id = socket_id;
	session->fd = fd;
	session->evidence = evidence;
	state->session_id = session->id;
	if (is_own_flow(&state->flow))
		session->verdict = VERDICT_OTHER;
	if (session->announced)
		emit_opened(session->id, socket_id, state, tgid, fd, OT_TLS_OPENSSL, evidence,
			    session->from_start);
}

/* TLS records moved inside a TLS call: this socket carries that call's session. */
static __always_inline void bind_nested(struct socket_state *state, struct tls_call *tls_call,
					const struct socket_call *call,
					const struct transfer *transfer, __u64 socket_id,
					__u64 offset)
{
	struct session_key key = {};
	struct first_bytes first;
	struct session *session;
	__u64 length;

	tls_call->moved_ktime_ns = bpf_ktime_get_ns();
	if (peek(&first, &length, transfer) || !is_tls_record(&first, length))
		return;
	if (tls_call->tcp_position < 0 && tls_call->direction == call->direction &&
	    first.byte[0] == TLS_APPLICATION_DATA)
		tls_call->tcp_position = offset;
	key.ssl = tls_call->ssl;
	key.tgid = bpf_get_current_pid_tgid() >> 32;
	session = find_session(&key);
	if (session && session->socket_id != socket_id)
		bind_session(session, state, socket_id, call->fd, key.tgid,
			     OT_EVIDENCE_NESTED_CALL);
}

/* Ciphertext of a session of this process is met again at a socket. */
static __noinline int bind_by_ciphertext(struct socket_state *state, __u64 memory, __u64 left,
					 __u64 socket_id, __u32 fd)
{
	__u32 tgid = bpf_get_current_pid_tgid() >> 32, i;

	if (!state)
		return 0;
	for (i = 0; i < MAX_RECORDS && left >= CIPHERTEXT_BYTES; i++) {
		struct ciphertext_key key = {};
		struct session_key session_key = {};
		struct ciphertext_owner *owner;
		struct session *session;
		__u64 record;

		if (bpf_probe_read_user(key.byte, sizeof(key.byte), (void *)memory) ||
		    key.byte[0] < 0x14 || key.byte[0] > TLS_APPLICATION_DATA || key.byte[1] != 3)
			return 0;
		key.tgid = tgid;
		owner = bpf_map_lookup_elem(&ciphertexts, &key);
		if (owner) {
			session_key.ssl = owner->ssl;
			session_key.tgid = tgid;
			session = bpf_map_lookup_elem(&sessions, &session_key);
			if (session && session->id == owner->session_id && !session->socket_id)
				bind_session(session, state, socket_id, fd, tgid,
					     OT_EVIDENCE_CIPHERTEXT);
			return 0;
		}
		record = TLS_RECORD_HEADER + (key.byte[3] << 8 | key.byte[4]);
		if (record > left)
			return 0;
		memory += record;
		left -= record;
	}
	return 0;
}

/* What a socket full of TLS records says of the session in it. */
static __always_inline void look_for_session(struct socket_state *state,
					     const struct socket_call *call,
					     const struct transfer *transfer, __u64 socket_id,
					     __u64 offset)
{
	struct tls_call *tls_call = current_tls_call(bpf_get_current_pid_tgid());
	struct user_iovec element;

	if (call->kind == CALL_IN_KERNEL)
		return;
	if (tls_call) {
		bind_nested(state, tls_call, call, transfer, socket_id, offset);
		return;
	}
	if (call->direction != OT_EGRESS || state->session_id || state->looks >= MAX_BINDING_SENDS)
		return;
	state->looks++;
	element.base = transfer->piece;
	element.length = transfer->left;
	if (transfer->vector &&
	    bpf_probe_read_user(&element, sizeof(element), (void *)transfer->vector))
		return;
	if (element.length > transfer->left)
		element.length = transfer->left;
	bind_by_ciphertext(state, element.base, element.length, socket_id, call->fd);
}

/* Bytes that sendmmsg or recvmmsg moved, by what the kernel wrote into each message. */
static __always_inline __u64 messages_length(const struct socket_call *call)
{
	__u64 total = 0;
	__u32 i, length;

	for (i = 0; i < MAX_MESSAGES && i < call->result; i++) {
		const struct user_mmsghdr *messages = (void *)call->pointer;

		if (bpf_probe_read_user(&length, sizeof(length), &messages[i].length))
			break;
		total += length;
	}
	return total;
}

static __always_inline void emit_messages(struct transfer *transfer, const struct socket_call *call,
					  __u64 total)
{
	__u64 remaining = total;
	__u32 i;

	for (i = 0; i < MAX_MESSAGES; i++) {
		struct user_mmsghdr message;

		if (i >= call->result || !remaining)
			return;
		if (bpf_probe_read_user(&message, sizeof(message),
					(void *)(call->pointer + i * sizeof(message))))
			break;
		transfer->vector = message.header.iov;
		transfer->vector_left = message.header.iov_count;
		transfer->piece_left = 0;
		transfer->left = message.length < remaining ? message.length : remaining;
		remaining -= transfer->left;
		emit_socket_transfer(0);
	}
	transfer->left = remaining;
	if (remaining)
		emit_gap(transfer, OT_LOST_TRUNCATED);
}

static __always_inline void end_of_stream(__u64 socket_id, const struct socket_call *call,
					  __u32 tgid)
{
	struct socket_state *state = bpf_map_lookup_elem(&sockets, &socket_id);

	if (state && (state->announced || state->session_id))
		emit_closed(0, socket_id, tgid, OT_INGRESS_END);
}

static __noinline int socket_bytes(struct socket_call *call)
{
	__u64 pid_tgid = bpf_get_current_pid_tgid();
	__u32 tgid = pid_tgid >> 32, direction = call->direction & 1;
	struct first_bytes first;
	struct socket_of_fd found;
	struct socket_state *state;
	struct transfer *transfer;
	__u32 sequence, moved, zero = 0;
	__u64 offset, length;

	if (tgid == agent_tgid || !find_socket(&found, call->fd))
		return 0;
	if (!call->result) {
		if (direction == OT_INGRESS && call->count && !(call->flags & MSG_PEEK))
			end_of_stream(found.id, call, tgid);
		return 0;
	}
	state = bpf_map_lookup_elem(&sockets, &found.id);
	sequence = stream_sequence(found.sk, direction);
	if (!state || state->sk != (__u64)found.sk) {
		struct socket_state fresh;

		if (call->flags & (MSG_PEEK | MSG_ERRQUEUE))
			return 0;
		begin_socket(&fresh, found.sk);
		if (is_own_flow(&fresh.flow))
			fresh.verdict = VERDICT_OTHER;
		if (bpf_map_update_elem(&sockets, &found.id, &fresh, BPF_ANY)) {
			count_loss(OT_LOST_STATE_FULL, call->result);
			return 0;
		}
		bpf_map_update_elem(&socket_ids, &fresh.sk, &found.id, BPF_ANY);
		state = bpf_map_lookup_elem(&sockets, &found.id);
		if (!state)
			return 0;
		/* The call already happened; step back in front of it. */
		moved = call->kind == CALL_MESSAGES ? messages_length(call) : call->result;
		if (state->offset[direction] >= moved) {
			state->offset[direction] -= moved;
			state->sequence[direction] -= moved;
		}
		state->from_start = state->offset[0] <= 1 && state->offset[1] <= 1;
	}
	/* What TCP says moved since the last call, whatever this call returned (MSG_PEEK: nothing).
	 */
	moved = sequence - state->sequence[direction];
	/* A read that reached the end of the stream also passed the FIN, which is no byte. */
	if (direction == OT_INGRESS && moved == call->result + 1 && fin_received(found.sk)) {
		moved--;
		sequence--;
	}
	if (!moved || moved > 0x7fffffff)
		return 0;
	state->sequence[direction] = sequence;
	state->offset[direction] += moved;
	if (state->verdict == VERDICT_OTHER)
		return 0;
	transfer = bpf_map_lookup_elem(&transfers, &zero);
	if (!transfer)
		return 0;
	transfer->left = call->kind == CALL_MESSAGES ? moved : call->result;
	if (transfer->left > moved)
		transfer->left = moved;
	offset = state->offset[direction] - transfer->left;
	if (point_at_memory(transfer, call)) {
		if (state->verdict == VERDICT_HTTP)
			count_loss(OT_LOST_UNREADABLE, transfer->left);
		return 0;
	}

	if (state->verdict == VERDICT_OPEN) {
		if (call->kind == CALL_IN_KERNEL || peek(&first, &length, transfer))
			return 0;
		state->verdict = next_verdict(&first, length, &state->looks, state->from_start);
	}
	if (state->verdict == VERDICT_TLS)
		look_for_session(state, call, transfer, found.id, offset);
	if (state->verdict != VERDICT_HTTP)
		return 0;
	if (!state->announced) {
		state->announced = 1;
		emit_opened(found.id, found.id, state, tgid, call->fd, OT_TLS_NONE,
			    OT_EVIDENCE_SOCKET, state->from_start);
	}
	if (bpf_map_lookup_elem(&muted, &found.id))
		return 0;
	transfer->ktime_ns = bpf_ktime_get_ns();
	transfer->begin_ktime_ns = transfer->ktime_ns;
	transfer->connection_id = found.id;
	transfer->offset = offset;
	transfer->tcp_position = offset;
	transfer->tgid = tgid;
	transfer->tid = pid_tgid;
	transfer->direction = direction;
	if (call->kind == CALL_IN_KERNEL || (call->flags & MSG_TRUNC))
		emit_gap(transfer, OT_LOST_SENDFILE);
	else if (call->kind == CALL_MESSAGES)
		emit_messages(transfer, call, transfer->left);
	else
		emit_socket_transfer(0);
	return 0;
}

SEC("raw_tp/sys_exit")
int socket_syscall_exit(struct bpf_raw_tracepoint_args *ctx)
{
	const struct pt_regs *regs = (const struct pt_regs *)ctx->args[0];
	struct syscall_arguments args;
	struct socket_call call = {};
	long number, result = ctx->args[1];

	if (result < 0)
		return 0;
	number = syscall_number(regs);
	if (!is_candidate(number) || syscall_arguments(regs, &args))
		return 0;
	if (!classify(&call, number, &args))
		return 0;
	call.result = result;
	socket_bytes(&call);
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
