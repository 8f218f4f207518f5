/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Which socket a TLS session uses, by evidence: TLS records that a socket call moved inside the
 * TLS call, or ciphertext of the session met again at a socket.
 */
#ifndef OTEL_TAP_BINDING_H
#define OTEL_TAP_BINDING_H

#include "sessions.h"
#include "socket_calls.h"
#include "sockets.h"

#define TLS_RECORD_HEADER 5

/* Records of one send that are looked up, and sends of a socket that are looked at. */
#define MAX_RECORDS	  4
#define MAX_BINDING_SENDS 64

static __always_inline void bind_session(struct session *session, __u64 ssl,
					 struct socket_state *state, __u64 socket_id, __u32 fd,
					 __u32 tgid, __u8 evidence)
{
	session->socket_id = socket_id;
	session->fd = fd;
	session->evidence = evidence;
	session->share = state->share;
	state->session_id = session->id;
	state->ssl = session->from_start ? ssl : 0;
	if (is_own_flow(&state->flow))
		session->verdict = VERDICT_OTHER;
	if (session->announced)
		emit_opened(session->id, socket_id, state, tgid, fd, OT_TLS_OPENSSL, evidence,
			    session->from_start, OT_UNKNOWN_BEGIN, OT_UNKNOWN_BEGIN);
}

/* Bound already, and its plaintext is counted from the start: nothing else to learn. */
static __always_inline int is_bound(const struct socket_state *state, __u64 pid_tgid)
{
	struct tls_call *tls_call = current_tls_call(pid_tgid);

	if (!tls_call || state->ssl != tls_call->ssl)
		return 0;
	tls_call->moved_ktime_ns = bpf_ktime_get_ns();
	return 1;
}

/* TLS records moved inside a TLS call: this socket carries that call's session. */
static __always_inline void bind_nested(struct socket_state *state, struct tls_call *tls_call,
					const struct socket_call *call,
					const struct transfer *transfer)
{
	struct session_key key = {};
	struct first_bytes first;
	struct user_iovec piece;
	struct session *session;

	tls_call->moved_ktime_ns = bpf_ktime_get_ns();
	if (first_piece(&piece, transfer) || read_first_bytes(&first, piece.base, piece.length) ||
	    !is_tls_record(&first, piece.length))
		return;
	if (tls_call->tcp_position < 0 && tls_call->direction == call->direction &&
	    first.byte[0] == TLS_APPLICATION_DATA)
		tls_call->tcp_position = state->offset[call->direction & 1] - transfer->left;
	key.ssl = tls_call->ssl;
	key.tgid = bpf_get_current_pid_tgid() >> 32;
	session = find_session(&key);
	if (session && session->socket_id != call->socket_id)
		bind_session(session, key.ssl, state, call->socket_id, call->fd, key.tgid,
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
				bind_session(session, owner->ssl, state, socket_id, fd, tgid,
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
__noinline int look_for_session(__u32 zero)
{
	struct tls_call *tls_call = current_tls_call(bpf_get_current_pid_tgid());
	struct socket_call *call = current_socket_call();
	struct socket_state *state;
	struct transfer *transfer;
	struct user_iovec first;
	__u64 socket_id;

	if (!call || call->kind >= CALL_IN_KERNEL)
		return 0;
	socket_id = call->socket_id;
	state = bpf_map_lookup_elem(&sockets, &socket_id);
	transfer = bpf_map_lookup_elem(&transfers, &zero);
	if (!state || !transfer)
		return 0;
	if (tls_call) {
		bind_nested(state, tls_call, call, transfer);
		return 0;
	}
	if (call->direction != OT_EGRESS || state->session_id || state->looks >= MAX_BINDING_SENDS)
		return 0;
	state->looks++;
	if (!first_piece(&first, transfer))
		bind_by_ciphertext(state, first.base, first.length, socket_id, call->fd);
	return 0;
}

#endif
