/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Plaintext of OpenSSL's sessions, and which descriptor each of them uses. */

static struct session *begin_session(struct session_key *key, __u8 from_start)
{
	struct session fresh = {};

	fresh.id = new_id(1);
	fresh.fd = -1;
	fresh.from_start = from_start;
	if (sessions.update(key, &fresh))
		count(OT_LOST_STATE_FULL, 0);
	return sessions.lookup(key);
}

static void end_session(struct session_key *key)
{
	struct session *session = sessions.lookup(key);

	if (session && (session->announced || session->fd_id))
		emit_closed(session->id, session->fd_id, key->tgid, OT_CONNECTION_CLOSED);
}

static int enter(struct pt_regs *ctx, __u8 direction, __u64 length_pointer, __u8 zero_is_end)
{
	__u64 pid_tgid = bpf_get_current_pid_tgid();
	__u64 ssl = PT_REGS_PARM1(ctx);
	struct tls_calls *mine;
	struct tls_call *call;

	if (pid_tgid >> 32 == AGENT_TGID)
		return 0;
	mine = calls.lookup(&pid_tgid);
	if (!mine) {
		struct tls_calls none = {};

		calls.update(&pid_tgid, &none);
		mine = calls.lookup(&pid_tgid);
		if (!mine) {
			count(OT_LOST_STATE_FULL, 0);
			return 0;
		}
	}
	if (mine->depth > 0 && mine->depth <= TLS_CALL_DEPTH) {
		call = &mine->call[(mine->depth - 1) & (TLS_CALL_DEPTH - 1)];
		/* One entry point that calls another: the outer one returns what it returned. */
		if (call->ssl == ssl && call->direction == direction) {
			call->nested++;
			return 0;
		}
	}
	if (mine->depth >= TLS_CALL_DEPTH)
		mine->depth = 0;
	call = &mine->call[mine->depth & (TLS_CALL_DEPTH - 1)];
	call->ssl = ssl;
	call->buffer = PT_REGS_PARM2(ctx);
	call->length_pointer = length_pointer;
	call->begin_ktime_ns = bpf_ktime_get_ns();
	call->nested = 0;
	call->direction = direction;
	call->zero_is_end = zero_is_end;
	mine->depth++;
	return 0;
}

int ssl_read(struct pt_regs *ctx)
{
	return enter(ctx, OT_INGRESS, 0, 1);
}

int ssl_write(struct pt_regs *ctx)
{
	return enter(ctx, OT_EGRESS, 0, 0);
}

int ssl_read_ex(struct pt_regs *ctx)
{
	return enter(ctx, OT_INGRESS, PT_REGS_PARM4(ctx), 0);
}

int ssl_write_ex(struct pt_regs *ctx)
{
	return enter(ctx, OT_EGRESS, PT_REGS_PARM4(ctx), 0);
}

int ssl_do_handshake(struct pt_regs *ctx)
{
	return enter(ctx, NO_DIRECTION, 0, 0);
}

static void plaintext(struct tls_calls *mine, const struct tls_call *call, __u64 length)
{
	__u64 pid_tgid = bpf_get_current_pid_tgid();
	struct transfer *transfer = &mine->transfer;
	struct session_key key = {};
	struct fd_key fd_key = {};
	struct session *session;
	__u32 direction = call->direction & 1;
	__u64 offset;

	key.ssl = call->ssl;
	key.tgid = pid_tgid >> 32;
	session = sessions.lookup(&key);
	if (!session)
		session = begin_session(&key, 0);
	if (!session)
		return;
	offset = session->offset[direction];
	session->offset[direction] += length;
	if (session->verdict == VERDICT_OPEN) {
		struct first_bytes first;
		__u8 verdict = look_at(&first, call->buffer, length, 1);

		if (verdict == VERDICT_OPEN)
			verdict = after_look(&first, length, &session->looks, session->from_start);
		/* Records inside a session are another session's ciphertext. */
		session->verdict = verdict == VERDICT_TLS ? VERDICT_OTHER : verdict;
	}
	if (session->verdict != VERDICT_HTTP)
		return;
	if (!session->announced) {
		struct fd_state *at = 0;

		fd_key.tgid = key.tgid;
		fd_key.fd = session->fd;
		if (session->fd_id)
			at = descriptors.lookup(&fd_key);
		if (at && at->id != session->fd_id)
			at = 0;
		session->announced = 1;
		emit_opened(session->id, at, session->fd, key.tgid, OT_TLS_OPENSSL,
			    session->evidence, session->from_start);
	}
	transfer->connection_id = session->id;
	transfer->ktime_ns = bpf_ktime_get_ns();
	transfer->begin_ktime_ns =
	    direction == OT_EGRESS ? call->begin_ktime_ns : transfer->ktime_ns;
	transfer->offset = offset;
	transfer->vector = 0;
	transfer->vector_left = 0;
	transfer->piece = call->buffer;
	transfer->piece_left = length;
	transfer->left = length;
	transfer->tgid = key.tgid;
	transfer->tid = pid_tgid;
	transfer->direction = direction;
	emit_transfer(transfer);
}

int ssl_return(struct pt_regs *ctx)
{
	__u64 pid_tgid = bpf_get_current_pid_tgid(), length = 0;
	int result = (int)PT_REGS_RC(ctx);
	struct tls_calls *mine = calls.lookup(&pid_tgid);
	struct tls_call call;
	__u32 top;

	if (!mine || mine->depth == 0 || mine->depth > TLS_CALL_DEPTH)
		return 0;
	top = (mine->depth - 1) & (TLS_CALL_DEPTH - 1);
	if (mine->call[top].nested) {
		mine->call[top].nested--;
		return 0;
	}
	call = mine->call[top];
	mine->depth--;
	if (call.direction == NO_DIRECTION)
		return 0;
	if (result <= 0) {
		if (result == 0 && call.zero_is_end) {
			struct session_key key = {.ssl = call.ssl, .tgid = pid_tgid >> 32};
			struct session *session = sessions.lookup(&key);

			if (session && session->announced)
				emit_closed(session->id, session->fd_id, key.tgid, OT_INGRESS_END);
		}
		return 0;
	}
	length = result;
	if (call.length_pointer &&
	    bpf_probe_read_user(&length, sizeof(length), (void *)call.length_pointer)) {
		count(OT_LOST_UNREADABLE, 0);
		return 0;
	}
	if (length)
		plaintext(mine, &call, length);
	return 0;
}

static int start_over(__u64 ssl)
{
	struct session_key key = {.ssl = ssl, .tgid = bpf_get_current_pid_tgid() >> 32};

	if (!ssl || key.tgid == AGENT_TGID)
		return 0;
	end_session(&key);
	begin_session(&key, 1);
	meet_process(key.tgid);
	return 0;
}

int ssl_new_return(struct pt_regs *ctx)
{
	return start_over(PT_REGS_RC(ctx));
}

int ssl_clear(struct pt_regs *ctx)
{
	return start_over(PT_REGS_PARM1(ctx));
}

int ssl_free(struct pt_regs *ctx)
{
	struct session_key key = {.ssl = PT_REGS_PARM1(ctx),
				  .tgid = bpf_get_current_pid_tgid() >> 32};

	end_session(&key);
	sessions.delete(&key);
	return 0;
}

/* Inside a TLS call: remembers the record, in case a socket sends it later (memory BIO). */
int bio_write(struct pt_regs *ctx)
{
	__u64 pid_tgid = bpf_get_current_pid_tgid();
	struct tls_calls *mine = calls.lookup(&pid_tgid);
	struct session_key session_key = {};
	struct ciphertext_owner owner = {};
	struct ciphertext_key key = {};
	struct session *session;
	__u32 top;

	if (!mine || mine->depth == 0 || mine->depth > TLS_CALL_DEPTH ||
	    (int)PT_REGS_PARM3(ctx) < LOOK_BYTES)
		return 0;
	top = (mine->depth - 1) & (TLS_CALL_DEPTH - 1);
	session_key.ssl = mine->call[top].ssl;
	session_key.tgid = pid_tgid >> 32;
	session = sessions.lookup(&session_key);
	if (!session)
		session = begin_session(&session_key, 0);
	if (!session || session->fd_id ||
	    bpf_probe_read_user(key.byte, sizeof(key.byte), (void *)PT_REGS_PARM2(ctx)) ||
	    key.byte[0] != TLS_APPLICATION_DATA)
		return 0;
	key.tgid = session_key.tgid;
	owner.ssl = session_key.ssl;
	owner.session_id = session->id;
	ciphertexts.update(&key, &owner);
	return 0;
}

static void bind_session(struct session *session, struct fd_state *at, __s32 fd, __u32 tgid,
			 __u8 evidence)
{
	if (session->fd_id == at->id)
		return;
	session->fd_id = at->id;
	session->fd = fd;
	session->evidence = evidence;
	at->bound = 1;
	emit_opened(session->id, at, fd, tgid, OT_TLS_OPENSSL, evidence, session->from_start);
}

/* TLS records went through a descriptor: whose are they? */
static void records_moved(struct fd_state *at, __s32 fd, __u64 pid_tgid, __u32 direction,
			  const struct first_bytes *first)
{
	struct tls_calls *mine = calls.lookup(&pid_tgid);
	struct session_key key = {};
	struct session *session;

	key.tgid = pid_tgid >> 32;
	if (mine && mine->depth > 0 && mine->depth <= TLS_CALL_DEPTH) {
		key.ssl = mine->call[(mine->depth - 1) & (TLS_CALL_DEPTH - 1)].ssl;
		session = sessions.lookup(&key);
		if (!session)
			session = begin_session(&key, 0);
		if (session)
			bind_session(session, at, fd, key.tgid, OT_EVIDENCE_NESTED_CALL);
	} else if (direction == OT_EGRESS && first->byte[0] == TLS_APPLICATION_DATA) {
		struct ciphertext_key ciphertext = {};
		struct ciphertext_owner *owner;

		__builtin_memcpy(ciphertext.byte, first->byte, LOOK_BYTES);
		ciphertext.tgid = key.tgid;
		owner = ciphertexts.lookup(&ciphertext);
		if (!owner)
			return;
		key.ssl = owner->ssl;
		session = sessions.lookup(&key);
		if (session && session->id == owner->session_id)
			bind_session(session, at, fd, key.tgid, OT_EVIDENCE_CIPHERTEXT);
		ciphertexts.delete(&ciphertext);
	}
}
