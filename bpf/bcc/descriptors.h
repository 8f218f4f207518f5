/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Descriptors that bytes went through: their life, and HTTP at them. */

static void end_descriptor(struct fd_key *key, __u32 reason)
{
	struct fd_state *state = descriptors.lookup(key);

	if (!state)
		return;
	if (state->announced || state->bound)
		emit_closed(0, state->id, key->tgid, reason);
	descriptors.delete(key);
}

static void map_peer(struct fd_state *state, const struct user_address *address)
{
	if (address->family == AF_INET_) {
		state->peer_address[10] = 0xff;
		state->peer_address[11] = 0xff;
		__builtin_memcpy(state->peer_address + 12, address->rest, 4);
	} else {
		__builtin_memcpy(state->peer_address, address->rest + 4, 16);
	}
	state->peer_port = __builtin_bswap16(address->port);
}

/* connect and accept: a connection begins at this descriptor. */
static void begin_descriptor(struct fd_key *key, __u64 address_pointer, __u32 listener)
{
	struct fd_state fresh = {};
	struct user_address address = {};

	end_descriptor(key, OT_CONNECTION_CLOSED);
	fresh.id = new_id(0);
	fresh.from_start = 1;
	fresh.listener = listener;
	if (address_pointer &&
	    !bpf_probe_read_user(&address, sizeof(address), (void *)address_pointer)) {
		if (address.family == AF_INET_ || address.family == AF_INET6_)
			map_peer(&fresh, &address);
		else
			fresh.verdict = VERDICT_OTHER;
	}
	descriptors.update(key, &fresh);
}

/* The number is new: whatever was known of it was closed unseen. A file is never looked at. */
static void number_given(struct fd_key *key, __u8 other)
{
	end_descriptor(key, OT_CONNECTION_CLOSED);
	if (other) {
		struct fd_state fresh = {};

		fresh.verdict = VERDICT_OTHER;
		descriptors.update(key, &fresh);
	}
}

static int is_in_tls_call(__u64 pid_tgid)
{
	struct tls_calls *mine = calls.lookup(&pid_tgid);

	return mine && mine->depth > 0;
}

static void descriptor_moved(struct fd_key *key, __u64 pid_tgid, __u32 direction, __u64 length,
			     __u64 buffer, __u64 vector, __u64 vector_count, __u32 gap_reason)
{
	struct fd_state *state = descriptors.lookup(key);
	struct transfer *transfer;
	struct first_bytes first;
	__u64 offset;
	__u32 zero = 0;

	if (!state) {
		struct fd_state fresh = {};

		if (gap_reason)
			return;
		fresh.id = new_id(0);
		if (descriptors.update(key, &fresh))
			count(OT_LOST_STATE_FULL, 0);
		state = descriptors.lookup(key);
		if (!state)
			return;
	}
	direction &= 1;
	offset = state->offset[direction];
	state->offset[direction] += length;
	if (state->verdict == VERDICT_OTHER)
		return;
	/* Behind CONNECT a plain connection becomes one that carries TLS. */
	if (!gap_reason && (state->verdict != VERDICT_HTTP || is_in_tls_call(pid_tgid))) {
		struct user_vector element = {};
		__u64 begin = buffer, size = length;
		__u8 verdict;

		if (vector) {
			if (bpf_probe_read_user(&element, sizeof(element), (void *)vector))
				return;
			begin = element.base;
			size = element.length < length ? element.length : length;
		}
		verdict = look_at(&first, begin, size, state->from_start);
		if (verdict == VERDICT_TLS) {
			state->verdict = VERDICT_TLS;
			records_moved(state, key->fd, pid_tgid, direction, &first);
			return;
		}
		if (state->verdict == VERDICT_TLS)
			return;
		if (state->verdict == VERDICT_OPEN) {
			if (verdict == VERDICT_OPEN &&
			    ++state->looks >=
				(state->from_start ? LOOKS_FROM_START : LOOKS_MID_STREAM))
				verdict = VERDICT_OTHER;
			state->verdict = verdict;
		}
	}
	if (state->verdict != VERDICT_HTTP)
		return;
	if (!state->announced) {
		state->announced = 1;
		emit_opened(state->id, state, key->fd, key->tgid, OT_TLS_NONE, OT_EVIDENCE_SOCKET,
			    state->from_start);
	}
	transfer = transfers.lookup(&zero);
	if (!transfer)
		return;
	transfer->ktime_ns = bpf_ktime_get_ns();
	transfer->begin_ktime_ns = transfer->ktime_ns;
	transfer->connection_id = state->id;
	transfer->offset = offset;
	transfer->vector = vector;
	transfer->vector_left = vector_count > 1024 ? 1024 : vector_count;
	transfer->piece = buffer;
	transfer->piece_left = vector ? 0 : length;
	transfer->left = length;
	transfer->tgid = key->tgid;
	transfer->tid = pid_tgid;
	transfer->direction = direction;
	if (gap_reason)
		emit_gap(transfer, gap_reason);
	else
		emit_transfer(transfer);
}
