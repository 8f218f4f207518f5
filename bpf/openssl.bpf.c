// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Plaintext at OpenSSL (1.1, 3.x and what has its functions): SSL_read, SSL_write, their _ex
 * forms, and the beginning and end of sessions.
 *
 * A call is remembered per thread at its entry and taken at its return, when it is known how many
 * bytes really moved: a call that is tried again counts once.
 */
#include "arch.h"

#include "look.h"
#include "sessions.h"
#include "sockets.h"
#include "state.h"

static __always_inline int enter(struct pt_regs *ctx, __u8 direction, __u64 length_pointer,
				 __u8 zero_is_end)
{
	__u64 pid_tgid = bpf_get_current_pid_tgid();
	__u64 ssl = PT_REGS_PARM1(ctx);
	struct tls_calls *calls;
	struct tls_call *call;

	if (pid_tgid >> 32 == constants.agent_tgid)
		return 0;
	calls = bpf_map_lookup_elem(&tls_calls, &pid_tgid);
	if (!calls) {
		struct tls_calls none = {};

		bpf_map_update_elem(&tls_calls, &pid_tgid, &none, BPF_ANY);
		calls = bpf_map_lookup_elem(&tls_calls, &pid_tgid);
		if (!calls) {
			account(OT_LOST_STATE_FULL, 0);
			return 0;
		}
	}
	if (calls->depth > 0 && calls->depth <= TLS_CALL_DEPTH) {
		call = &calls->call[(calls->depth - 1) & (TLS_CALL_DEPTH - 1)];
		if (call->ssl == ssl && call->direction == direction) {
			call->nested++;
			return 0;
		}
	}
	/* Deeper than TLS in TLS can only be calls whose return was never seen. */
	if (calls->depth >= TLS_CALL_DEPTH)
		calls->depth = 0;
	call = &calls->call[calls->depth & (TLS_CALL_DEPTH - 1)];
	call->ssl = ssl;
	call->buffer = PT_REGS_PARM2(ctx);
	call->length_pointer = length_pointer;
	call->begin_ktime_ns = bpf_ktime_get_ns();
	call->moved_ktime_ns = 0;
	call->tcp_position = -1;
	call->nested = 0;
	call->direction = direction;
	call->zero_is_end = zero_is_end;
	calls->depth++;
	return 0;
}

SEC("uprobe")
int ssl_read(struct pt_regs *ctx)
{
	return enter(ctx, OT_INGRESS, 0, 1);
}

SEC("uprobe")
int ssl_write(struct pt_regs *ctx)
{
	return enter(ctx, OT_EGRESS, 0, 0);
}

SEC("uprobe")
int ssl_read_ex(struct pt_regs *ctx)
{
	return enter(ctx, OT_INGRESS, PT_REGS_PARM4(ctx), 0);
}

SEC("uprobe")
int ssl_write_ex(struct pt_regs *ctx)
{
	return enter(ctx, OT_EGRESS, PT_REGS_PARM4(ctx), 0);
}

/* What both forms call: the arguments of the _ex form, the results of the other. */
SEC("uprobe")
int ssl_read_inner(struct pt_regs *ctx)
{
	return enter(ctx, OT_INGRESS, PT_REGS_PARM4(ctx), 1);
}

SEC("uprobe")
int ssl_write_inner(struct pt_regs *ctx)
{
	return enter(ctx, OT_EGRESS, PT_REGS_PARM4(ctx), 0);
}

/* Since 3.3 with flags before the pointer. */
SEC("uprobe")
int ssl_write_inner5(struct pt_regs *ctx)
{
	return enter(ctx, OT_EGRESS, PT_REGS_PARM5(ctx), 0);
}

/* Global functions: verified once, not once per path that leads to them. */
__noinline int emit_session_piece(__u64 pid_tgid)
{
	struct tls_calls *calls = bpf_map_lookup_elem(&tls_calls, &pid_tgid);

	return calls ? emit_piece(&calls->transfer) : 1;
}

__noinline int emit_session_transfer(__u64 pid_tgid)
{
	struct tls_calls *calls;
	__u32 i;

	for (i = 0; i < MAX_PIECES; i++)
		if (emit_session_piece(pid_tgid))
			break;
	calls = bpf_map_lookup_elem(&tls_calls, &pid_tgid);
	if (calls && calls->transfer.left)
		emit_gap(&calls->transfer, OT_LOST_TRUNCATED);
	return 0;
}

static __noinline int plaintext(struct transfer *transfer, const struct tls_call *call,
				__u64 length)
{
	__u64 pid_tgid = bpf_get_current_pid_tgid();
	struct session_key key = {};
	struct session *session;
	enum wanted want;
	__u32 direction;

	if (!transfer || !call)
		return 0;
	direction = call->direction & 1;
	key.ssl = call->ssl;
	key.tgid = pid_tgid >> 32;
	session = find_session(&key);
	if (!session)
		return 0;
	transfer->offset = session->offset[direction];
	session->offset[direction] += length;
	if (session->verdict == VERDICT_OPEN) {
		session->verdict =
		    next_verdict(call->buffer, length, &session->looks, session->from_start);
		/* Records inside a session are another session's ciphertext. */
		if (session->verdict == VERDICT_TLS)
			session->verdict = VERDICT_OTHER;
	}
	if (session->verdict != VERDICT_HTTP)
		return 0;
	if (!session->announced) {
		struct socket_state *state = 0;
		__u64 socket_id = session->socket_id;

		if (socket_id)
			state = bpf_map_lookup_elem(&sockets, &socket_id);
		session->announced = 1;
		emit_opened(session->id, socket_id, state, key.tgid, session->fd, OT_TLS_OPENSSL,
			    session->evidence, session->from_start,
			    direction == OT_INGRESS ? transfer->offset
						    : session->offset[OT_INGRESS],
			    direction == OT_EGRESS ? transfer->offset : session->offset[OT_EGRESS]);
	}
	transfer->connection_id = session->id;
	transfer->ktime_ns = bpf_ktime_get_ns();
	transfer->begin_ktime_ns = call->begin_ktime_ns;
	if (direction == OT_INGRESS) /* the wait for bytes is not theirs */
		transfer->begin_ktime_ns = transfer->ktime_ns;
	else if (call->moved_ktime_ns) /* nor is the way back through the library */
		transfer->ktime_ns = call->moved_ktime_ns;
	transfer->tcp_position = call->tcp_position;
	transfer->vector = 0;
	transfer->vector_left = 0;
	transfer->piece = call->buffer;
	transfer->piece_left = length;
	transfer->left = length;
	transfer->tgid = key.tgid;
	transfer->tid = pid_tgid;
	transfer->direction = direction;
	transfer->share = session->share;
	want = wanted(transfer);
	if (want == SHED && !session->shed)
		session->shed =
		    !emit_closed(session->id, session->socket_id, key.tgid, OT_SHED_FROM_HERE);
	if (want != WANTED)
		return 0;
	session->shed = 0;
	if (length <= SHORT_BYTES)
		emit_short(transfer);
	else
		emit_session_transfer(pid_tgid);
	return 0;
}

SEC("uretprobe")
int ssl_return(struct pt_regs *ctx)
{
	__u64 pid_tgid = bpf_get_current_pid_tgid(), length = 0;
	int result = (int)PT_REGS_RC(ctx);
	struct tls_calls *calls = bpf_map_lookup_elem(&tls_calls, &pid_tgid);
	struct tls_call call;
	__u32 top;

	if (!calls || calls->depth == 0 || calls->depth > TLS_CALL_DEPTH)
		return 0;
	top = (calls->depth - 1) & (TLS_CALL_DEPTH - 1);
	if (calls->call[top].nested) {
		calls->call[top].nested--;
		return 0;
	}
	call = calls->call[top];
	calls->depth--;
	if (result <= 0) {
		if (result == 0 && call.zero_is_end) {
			struct session_key key = {.ssl = call.ssl, .tgid = pid_tgid >> 32};
			struct session *session = bpf_map_lookup_elem(&sessions, &key);

			if (session && session->announced)
				emit_closed(session->id, session->socket_id, key.tgid,
					    OT_INGRESS_END);
		}
		return 0;
	}
	length = result;
	if (call.length_pointer &&
	    bpf_probe_read_user(&length, sizeof(length), (void *)call.length_pointer)) {
		account(OT_LOST_UNREADABLE, 0);
		return 0;
	}
	if (length)
		plaintext(&calls->transfer, &call, length);
	return 0;
}

/* BIO_write inside SSL_write: remembers the record, in case a socket sends it later. */
SEC("uprobe")
int bio_write(struct pt_regs *ctx)
{
	__u64 pid_tgid = bpf_get_current_pid_tgid();
	struct tls_call *call = current_tls_call(pid_tgid);
	struct session_key session_key = {};
	struct ciphertext_owner owner = {};
	struct ciphertext_key key = {};
	struct session *session;

	if (!call || call->direction != OT_EGRESS || (int)PT_REGS_PARM3(ctx) < CIPHERTEXT_BYTES)
		return 0;
	session_key.ssl = call->ssl;
	session_key.tgid = pid_tgid >> 32;
	session = find_session(&session_key);
	if (!session || session->socket_id ||
	    bpf_probe_read_user(key.byte, sizeof(key.byte), (void *)PT_REGS_PARM2(ctx)) ||
	    key.byte[0] != TLS_APPLICATION_DATA)
		return 0;
	key.tgid = session_key.tgid;
	owner.ssl = call->ssl;
	owner.session_id = session->id;
	bpf_map_update_elem(&ciphertexts, &key, &owner, BPF_ANY);
	return 0;
}

/* What was known of this pointer belongs to a session that is over. */
static __always_inline void end_session(const struct session_key *key)
{
	struct session *session = bpf_map_lookup_elem(&sessions, key);
	struct socket_state *state;
	__u64 socket_id;

	if (session && session->socket_id) {
		socket_id = session->socket_id;
		state = bpf_map_lookup_elem(&sockets, &socket_id);
		if (state && state->session_id == session->id)
			state->ssl = 0;
	}
	if (session && session->announced)
		emit_closed(session->id, session->socket_id, key->tgid, OT_CONNECTION_CLOSED);
	if (session)
		forget_connection(session->id);
}

static __always_inline int start_over(__u64 ssl)
{
	struct session_key key = {.ssl = ssl, .tgid = bpf_get_current_pid_tgid() >> 32};

	if (!ssl || key.tgid == constants.agent_tgid)
		return 0;
	end_session(&key);
	begin_session(&key, 1);
	/* A handshake takes longer than the agent needs to look at /proc; the rest may not. */
	meet_process(key.tgid);
	return 0;
}

SEC("uretprobe")
int ssl_new_return(struct pt_regs *ctx)
{
	return start_over(PT_REGS_RC(ctx));
}

/* SSL_clear: called by programs that use a session again, and by every handshake that begins. */
SEC("uprobe")
int ssl_clear(struct pt_regs *ctx)
{
	return start_over(PT_REGS_PARM1(ctx));
}

SEC("uprobe")
int ssl_free(struct pt_regs *ctx)
{
	struct session_key key = {.ssl = PT_REGS_PARM1(ctx),
				  .tgid = bpf_get_current_pid_tgid() >> 32};

	end_session(&key);
	bpf_map_delete_elem(&sessions, &key);
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
