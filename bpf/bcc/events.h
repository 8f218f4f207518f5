/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What the first bytes of a call say, and events into the ring. */

/* What the bytes of a call begin with; a method in lower case only where a connection began. */

static __u8 look_at(struct first_bytes *first, __u64 memory, __u64 length, __u8 any_case)
{
	__u32 size = length < LOOK_BYTES ? length : LOOK_BYTES;
	int i;

	__builtin_memset(first, 0, sizeof(*first));
	size &= 31;
	if (size > LOOK_BYTES || bpf_probe_read_user(first, size, (void *)memory))
		return VERDICT_OPEN;
	if (length >= 5 && first->byte[0] >= 0x14 && first->byte[0] <= 0x18 &&
	    first->byte[1] == 3 && first->byte[2] <= 4)
		return VERDICT_TLS;
	if (first->byte[0] == 'H' && first->byte[1] == 'T' && first->byte[2] == 'T' &&
	    first->byte[3] == 'P' && first->byte[4] == '/')
		return VERDICT_HTTP;
	if (first->byte[0] == 'C' && first->byte[1] == 'O' && first->byte[2] == 'N' &&
	    first->byte[3] == 'N' && first->byte[4] == 'E' && first->byte[5] == 'C' &&
	    first->byte[6] == 'T' && first->byte[7] == ' ')
		return VERDICT_HTTP;
#pragma unroll
	for (i = 0; i < LOOK_BYTES - 1; i++) {
		__u8 c = first->byte[i], next = first->byte[i + 1];

		if (i >= length) /* the call ended inside a method, upper case so far */
			return i > 0 ? VERDICT_HTTP : VERDICT_OPEN;
		if (c == ' ')
			return i > 0 && (next == '/' || next == '*' || next == 'h' ||
					 i + 1 >= length)
				   ? VERDICT_HTTP
				   : VERDICT_OPEN;
		if (!((c >= 'A' && c <= 'Z') || (any_case && c >= 'a' && c <= 'z') || c == '-' ||
		      c == '_'))
			return VERDICT_OPEN;
		if (i + 1 >= length && c >= 'a')
			return VERDICT_OPEN;
	}
	return VERDICT_OPEN;
}

/*
 * HTTP/2 met in the middle, as in ../look.h: HTTP for a call that begins with a whole block of
 * header fields, OPEN for another frame, for which no look is spent, and OTHER for none.
 */
static __u8 look_for_frame(const struct first_bytes *first, __u64 length)
{
	__u8 kind = first->byte[3], flags = first->byte[4], of_connection;

	if (length < 9 || first->byte[0] || kind > 9 || first->byte[5] & 0x80)
		return VERDICT_OTHER;
	of_connection = !(first->byte[5] | first->byte[6] | first->byte[7] | first->byte[8]);
	if (kind == 1) {
		if (of_connection || flags & ~0x2d || !(first->byte[1] | first->byte[2]))
			return VERDICT_OTHER;
		return flags & 0x04 ? VERDICT_HTTP : VERDICT_OPEN;
	}
	if (kind != 8 && of_connection != (kind == 4 || kind == 6 || kind == 7))
		return VERDICT_OTHER;
	return flags & ~(kind ? 0x05 : 0x09) ? VERDICT_OTHER : VERDICT_OPEN;
}

/* The verdict where looking at a call showed nothing. */
static __u8 after_look(const struct first_bytes *first, __u64 length, __u8 *looks, __u8 from_start)
{
	__u8 verdict = from_start ? VERDICT_OTHER : look_for_frame(first, length);

	if (verdict != VERDICT_OTHER)
		return verdict;
	(*looks)++;
	return *looks >= (from_start ? LOOKS_FROM_START : LOOKS_MID_STREAM) ? VERDICT_OTHER
									    : VERDICT_OPEN;
}

/* Events. */

static void emit_closed(__u64 connection_id, __u64 socket_id, __u32 tgid, __u32 reason)
{
	struct ot_closed *event = events.ringbuf_reserve(sizeof(struct ot_closed));

	if (!event) {
		count(OT_LOST_RING_FULL, 0);
		return;
	}
	__builtin_memset(event, 0, sizeof(*event));
	event->header.type = OT_CLOSED;
	event->header.tgid = tgid;
	event->header.ktime_ns = bpf_ktime_get_ns();
	event->connection_id = connection_id;
	event->socket_id = socket_id;
	event->reason = reason;
	events.ringbuf_submit(event, QUIET);
}

/* Parent, start time and namespace are left to user space: they are the kernel's structures. */
static void emit_process(__u32 tgid, __u8 executed, __u64 flags)
{
	struct ot_process_started *event =
	    events.ringbuf_reserve(sizeof(struct ot_process_started));

	if (!event) {
		count(OT_LOST_RING_FULL, 0);
		return;
	}
	__builtin_memset(event, 0, sizeof(*event));
	event->header.type = OT_PROCESS_STARTED;
	event->header.tgid = tgid;
	event->header.ktime_ns = bpf_ktime_get_ns();
	event->uid = (__u32)bpf_get_current_uid_gid();
	bpf_get_current_comm(event->comm, sizeof(event->comm));
	event->filename[0] = executed ? '?' : 0; /* user space knows its name */
	events.ringbuf_submit(event, flags);
}

static void meet_process(__u32 tgid)
{
	__u8 known = 1;

	if (processes.lookup(&tgid))
		return;
	processes.update(&tgid, &known);
	emit_process(tgid, 0, WAKE);
}

/* The agent is woken: it must look at the descriptor while that is still open. */
static void emit_opened(__u64 connection_id, const struct fd_state *at, __s32 fd, __u32 tgid,
			__u8 tls, __u8 evidence, __u8 from_start)
{
	struct ot_opened *event;

	meet_process(tgid);
	event = events.ringbuf_reserve(sizeof(struct ot_opened));
	if (!event) {
		count(OT_LOST_RING_FULL, 0);
		return;
	}
	__builtin_memset(event, 0, sizeof(*event));
	event->header.type = OT_OPENED;
	event->header.tgid = tgid;
	event->header.ktime_ns = bpf_ktime_get_ns();
	event->connection_id = connection_id;
	event->fd = fd;
	event->tls = tls;
	event->evidence = evidence;
	event->from_start = from_start;
	event->begins[OT_INGRESS] = OT_UNKNOWN_BEGIN;
	event->begins[OT_EGRESS] = OT_UNKNOWN_BEGIN;
	if (at) {
		event->socket_id = at->id;
		event->peer_port = at->peer_port;
		event->has_addresses = at->peer_port || at->listener;
		/* With local port 0 no address, but who accepted it: user space can ask that one.
		 */
		*(__u32 *)(event->local_address + 12) = __builtin_bswap32(at->listener);
		__builtin_memcpy(event->peer_address, at->peer_address, 16);
	}
	events.ringbuf_submit(event, WAKE);
}

static void fill_data(struct ot_data *event, const struct transfer *transfer, __u32 length,
		      __u32 captured, __u16 reason)
{
	event->header.type = OT_DATA;
	event->header.tgid = transfer->tgid;
	event->header.ktime_ns = transfer->ktime_ns;
	event->begin_ktime_ns = transfer->begin_ktime_ns;
	event->connection_id = transfer->connection_id;
	event->offset = transfer->offset;
	event->tcp_position = -1;
	event->tid = transfer->tid;
	event->length = length;
	event->captured = captured;
	event->direction = transfer->direction;
	event->reason = reason;
}

/* The ring wants constant sizes: the payload goes into the smallest class that holds it. */
static void emit_class(const struct transfer *transfer, __u32 length, const __u32 size)
{
	struct ot_data *event = events.ringbuf_reserve(sizeof(struct ot_data) + size);
	__u64 captured = length;

	if (!event) {
		count(OT_LOST_RING_FULL, length);
		return;
	}
	/* Hides from clang what it knows, so that the verifier is told it too. */
	asm volatile("" : "+r"(captured));
	if (captured > size)
		captured = size;
	if (bpf_probe_read_user(event->payload, captured, (void *)transfer->piece))
		captured = 0;
	fill_data(event, transfer, length, captured, captured ? OT_CAPTURED : OT_LOST_UNREADABLE);
	events.ringbuf_submit(event, QUIET);
	count(captured ? OT_CAPTURED : OT_LOST_UNREADABLE, length);
}

static void emit_gap(const struct transfer *transfer, __u32 reason)
{
	struct ot_data *event = events.ringbuf_reserve(sizeof(struct ot_data));

	count(reason, transfer->left);
	if (!event)
		return;
	fill_data(event, transfer, transfer->left, 0, reason);
	events.ringbuf_submit(event, QUIET);
}

static void emit_transfer(struct transfer *transfer)
{
	__u64 connection_id = transfer->connection_id;
	__u32 tgid = transfer->tgid;
	int i;

	if (unwanted.lookup(&tgid)) {
		count(OT_FILTERED, transfer->left);
		return;
	}
	if (muted.lookup(&connection_id)) {
		count(OT_MUTED, transfer->left);
		return;
	}
	/* A real loop, bounded where the verifier sees it: the kernel has had them since 5.3. */
#pragma clang loop unroll(disable)
	for (i = 0; i < MAX_PIECES; i++) {
		__u64 length;

		if (!transfer->left)
			return;
		if (!transfer->piece_left) {
			struct user_vector element = {};

			if (!transfer->vector_left || bpf_probe_read_user(&element, sizeof(element),
									  (void *)transfer->vector))
				break;
			transfer->vector += sizeof(element);
			transfer->vector_left--;
			transfer->piece = element.base;
			transfer->piece_left = element.length;
			continue;
		}
		length = transfer->piece_left;
		if (length > transfer->left)
			length = transfer->left;
		if (length > CHUNK_BYTES)
			length = CHUNK_BYTES;
		if (length <= 256)
			emit_class(transfer, length, 256);
		else if (length <= 1024)
			emit_class(transfer, length, 1024);
		else if (length <= 4096)
			emit_class(transfer, length, 4096);
		else
			emit_class(transfer, length, CHUNK_BYTES);
		transfer->piece += length;
		transfer->piece_left -= length;
		transfer->offset += length;
		transfer->left -= length;
	}
	if (transfer->left)
		emit_gap(transfer, OT_LOST_TRUNCATED);
}
