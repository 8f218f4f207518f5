/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Bytes that one call moved at one TCP socket.
 *
 * Plain HTTP is recognised by its first bytes and copied; anything else costs a look. A socket
 * used inside a TLS call is bound to that call's session when TLS records are seen in it.
 */
#ifndef OTEL_TAP_SOCKET_BYTES_H
#define OTEL_TAP_SOCKET_BYTES_H

#include "binding.h"
#include "emit.h"
#include "socket_calls.h"
#include "sockets.h"

#define MSG_PEEK     0x2
#define MSG_TRUNC    0x20
#define MSG_ERRQUEUE 0x2000

#define MAX_MESSAGES 8

/* Global functions: verified once, not once per path that leads to them. */
__noinline int emit_socket_piece(__u32 index)
{
	struct transfer *transfer = bpf_map_lookup_elem(&transfers, &index);

	return transfer ? emit_piece(transfer) : 1;
}

__noinline int emit_socket_transfer(__u32 index)
{
	struct transfer *transfer = bpf_map_lookup_elem(&transfers, &index);
	__u32 i;

	if (transfer && transfer->vector_left > 1 && transfer->left <= GATHER_BYTES)
		gather(transfer);
	for (i = 0; i < MAX_PIECES; i++)
		if (emit_socket_piece(0))
			break;
	transfer = bpf_map_lookup_elem(&transfers, &index);
	if (transfer && transfer->left)
		emit_gap(transfer, OT_LOST_TRUNCATED);
	return 0;
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

/* A socket met for the first time, in front of the call that met it. */
__noinline int meet_socket(__u32 zero)
{
	struct socket_call *call = current_socket_call();
	__u32 moved, direction;
	struct socket_state fresh, *state;
	__u64 socket_id;

	if (!call || call->flags & (MSG_PEEK | MSG_ERRQUEUE))
		return 0;
	socket_id = call->socket_id;
	direction = call->direction & 1;
	begin_socket(&fresh, (struct sock *)call->sk);
	if (is_own_flow(&fresh.flow))
		fresh.verdict = VERDICT_OTHER;
	if (bpf_map_update_elem(&sockets, &socket_id, &fresh, BPF_ANY)) {
		account(OT_LOST_STATE_FULL, call->result);
		return 0;
	}
	bpf_map_update_elem(&socket_ids, &fresh.sk, &socket_id, BPF_ANY);
	state = bpf_map_lookup_elem(&sockets, &socket_id);
	if (!state)
		return 0;
	moved = call->kind == CALL_MESSAGES ? messages_length(call) : call->result;
	if (state->offset[direction] >= moved) {
		state->offset[direction] -= moved;
		state->sequence[direction] -= moved;
	}
	state->from_start = state->offset[0] <= 1 && state->offset[1] <= 1;
	return 1;
}

/* The process read the end of the stream. */
static __always_inline void socket_end(const struct socket_call *call)
{
	__u64 socket_id = call->socket_id;
	struct socket_state *state = bpf_map_lookup_elem(&sockets, &socket_id);

	if (state && (state->announced || state->session_id))
		emit_closed(0, socket_id, bpf_get_current_pid_tgid() >> 32, OT_INGRESS_END);
}

/* What is left to do, each by a function of its own: together they would not fit the stack. */
enum next_step { STEP_NONE, STEP_MEET_SOCKET, STEP_LOOK_FOR_SESSION };

__noinline int take_bytes(__u32 zero)
{
	struct socket_call *call = current_socket_call();
	__u64 pid_tgid = bpf_get_current_pid_tgid(), socket_id;
	__u32 moved, tgid = pid_tgid >> 32, direction, sequence;
	struct socket_state *state;
	struct transfer *transfer;
	struct user_iovec first;
	enum wanted want;
	__u64 offset;

	if (!call)
		return 0;
	socket_id = call->socket_id;
	direction = call->direction & 1;
	sequence = call->sequence;
	state = bpf_map_lookup_elem(&sockets, &socket_id);
	if (!state || state->sk != call->sk)
		return STEP_MEET_SOCKET;
	/* What TCP says moved since the last call, whatever this call returned (MSG_PEEK: nothing).
	 */
	moved = sequence - state->sequence[direction];
	/* A read that reached the end of the stream also passed the FIN, which is no byte. */
	if (direction == OT_INGRESS && moved == call->result + 1 &&
	    fin_received((struct sock *)call->sk)) {
		moved--;
		sequence--;
	}
	if (!moved || moved > 0x7fffffff)
		return 0;
	state->sequence[direction] = sequence;
	state->offset[direction] += moved;
	if (state->verdict == VERDICT_OTHER)
		return 0;
	if (state->verdict == VERDICT_TLS && is_bound(state, pid_tgid))
		return STEP_NONE;
	transfer = bpf_map_lookup_elem(&transfers, &zero);
	if (!transfer)
		return 0;
	transfer->left = call->kind == CALL_MESSAGES ? moved : call->result;
	if (transfer->left > moved)
		transfer->left = moved;
	offset = state->offset[direction] - transfer->left;
	if (point_at_memory(transfer, call)) {
		if (state->verdict == VERDICT_HTTP)
			account_missing(socket_id, OT_LOST_UNREADABLE, moved);
		return 0;
	}
	if (state->verdict == VERDICT_OPEN) {
		if (call->kind >= CALL_IN_KERNEL || first_piece(&first, transfer))
			return 0;
		state->verdict =
		    next_verdict(first.base, first.length, &state->looks, state->from_start);
		if (state->verdict == VERDICT_HTTP)
			state->tunnel = asks_for_tunnel(first.base, first.length);
	} else if (state->verdict == VERDICT_HTTP && state->tunnel && call->kind < CALL_IN_KERNEL &&
		   !first_piece(&first, transfer) && begins_tls(first.base, first.length)) {
		/* The tunnel leads to a TLS server: its session is this socket's from here on. */
		state->verdict = VERDICT_TLS;
		state->looks = 0;
	} else if (state->verdict == VERDICT_HTTP && moved > transfer->left) {
		account_missing(socket_id, OT_LOST_UNSEEN, moved - transfer->left);
	}
	if (state->verdict == VERDICT_TLS)
		return STEP_LOOK_FOR_SESSION;
	if (state->verdict != VERDICT_HTTP)
		return 0;
	if (!state->announced) {
		state->announced = 1;
		emit_opened(socket_id, socket_id, state, tgid, call->fd, OT_TLS_NONE,
			    OT_EVIDENCE_SOCKET, state->from_start,
			    direction == OT_INGRESS ? offset : state->offset[OT_INGRESS],
			    direction == OT_EGRESS ? offset : state->offset[OT_EGRESS]);
	}
	transfer->ktime_ns = bpf_ktime_get_ns();
	transfer->begin_ktime_ns = transfer->ktime_ns;
	transfer->connection_id = socket_id;
	transfer->offset = offset;
	transfer->tcp_position = offset;
	transfer->tgid = tgid;
	transfer->tid = pid_tgid;
	transfer->direction = direction;
	transfer->share = state->share;
	want = wanted(transfer);
	if (want == SHED && !state->shed)
		state->shed = !emit_closed(socket_id, socket_id, tgid, OT_SHED_FROM_HERE);
	if (want != WANTED)
		return 0;
	state->shed = 0;
	if (call->kind == CALL_UNKNOWN)
		emit_gap(transfer, OT_LOST_UNSEEN);
	else if (call->kind == CALL_IN_KERNEL || (call->flags & MSG_TRUNC))
		emit_gap(transfer, OT_LOST_SENDFILE);
	else if (call->kind == CALL_MESSAGES)
		emit_messages(transfer, call, transfer->left);
	else
		emit_socket_transfer(0);
	return 0;
}

static __always_inline void socket_bytes(void)
{
	int step = take_bytes(0);

	if (step == STEP_MEET_SOCKET && meet_socket(0))
		step = take_bytes(0);
	if (step == STEP_LOOK_FOR_SESSION)
		look_for_session(0);
}

#endif
