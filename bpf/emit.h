/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Events into the ring: reserve, fill, submit. Nobody is woken for bytes as long as the ring is
 * nearly empty: the agent drains by a timer (a wake-up costs the traced program more than the
 * whole probe).
 */
#ifndef OTEL_TAP_EMIT_H
#define OTEL_TAP_EMIT_H

#include "state.h"

#define CHUNK_BYTES 131072

/* Chunks and vector elements of one call that are copied; the rest is a stated gap. */
#define MAX_PIECES 64

/* Calls up to this length become one record, however many places their bytes lie in. */
#define GATHER_BYTES  4096
#define GATHER_PIECES 8

/* How often a transfer whose bytes are skipped is told of, so that it is not taken for idle. */
#define SKIP_TELL_NS 1000000000ULL

static __always_inline struct ot_control *the_control(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&control, &zero);
}

/* One wake-up for each time that the agent sleeps. */
static __always_inline __u64 wake_flags(void)
{
	struct ot_control *control = the_control();

	if (!control || !control->waiting ||
	    bpf_ringbuf_query(&events, BPF_RB_AVAIL_DATA) < control->wake_bytes)
		return BPF_RB_NO_WAKEUP;
	control->waiting = 0;
	return BPF_RB_FORCE_WAKEUP;
}

static __always_inline void fill_data(struct ot_data *event, const struct transfer *transfer,
				      __u32 length, __u32 captured, __u16 reason)
{
	event->header.type = OT_DATA;
	event->header.tgid = transfer->tgid;
	event->header.ktime_ns = transfer->ktime_ns;
	event->begin_ktime_ns = transfer->begin_ktime_ns;
	event->connection_id = transfer->connection_id;
	event->offset = transfer->offset;
	event->tcp_position = transfer->tcp_position;
	event->tid = transfer->tid;
	event->length = length;
	event->captured = captured;
	event->direction = transfer->direction;
	event->reason = reason;
}

/* The ring wants constant sizes: the payload goes into the smallest class that holds it. */
#define EMIT_CLASS(size)                                                                           \
	do {                                                                                       \
		struct ot_data *event =                                                            \
		    bpf_ringbuf_reserve(&events, sizeof(struct ot_data) + (size), 0);              \
		if (!event) {                                                                      \
			account_missing(transfer->connection_id, OT_LOST_RING_FULL, length);       \
			return;                                                                    \
		}                                                                                  \
		__u64 captured = length;                                                           \
		/* Hides from clang what it knows, so that the verifier is told it too. */         \
		asm volatile("" : "+r"(captured));                                                 \
		if (captured > (size))                                                             \
			captured = (size);                                                         \
		if (bpf_probe_read_user(event->payload, captured, (void *)transfer->piece))        \
			captured = 0;                                                              \
		fill_data(event, transfer, length, captured,                                       \
			  captured ? OT_CAPTURED : OT_LOST_UNREADABLE);                            \
		bpf_ringbuf_submit(event, wake_flags());                                           \
		if (captured)                                                                      \
			account(OT_CAPTURED, length);                                              \
		else                                                                               \
			account_missing(transfer->connection_id, OT_LOST_UNREADABLE, length);      \
	} while (0)

static __always_inline void emit_bytes(const struct transfer *transfer, __u32 length)
{
	if (length <= 128)
		EMIT_CLASS(128);
	else if (length <= 256)
		EMIT_CLASS(256);
	else if (length <= 512)
		EMIT_CLASS(512);
	else if (length <= 1024)
		EMIT_CLASS(1024);
	else if (length <= 2048)
		EMIT_CLASS(2048);
	else if (length <= 4096)
		EMIT_CLASS(4096);
	else if (length <= 8192)
		EMIT_CLASS(8192);
	else if (length <= 16384)
		EMIT_CLASS(16384);
	else if (length <= 32768)
		EMIT_CLASS(32768);
	else if (length <= 65536)
		EMIT_CLASS(65536);
	else
		EMIT_CLASS(CHUNK_BYTES);
}

/* What most calls move: no need to look for the transfer again, as the global functions do. */
#define SHORT_BYTES 4096

static __always_inline void emit_short(const struct transfer *transfer)
{
	__u32 length = transfer->left;

	if (length <= 256)
		EMIT_CLASS(256);
	else if (length <= 1024)
		EMIT_CLASS(1024);
	else
		EMIT_CLASS(SHORT_BYTES);
}

/*
 * A short call whose bytes lie in several places becomes one record. The verifier does not see
 * that what is there and what is added never exceed the size together, so twice of it is reserved.
 */
#define GATHER_CLASS(size)                                                                         \
	do {                                                                                       \
		struct ot_data *event =                                                            \
		    bpf_ringbuf_reserve(&events, sizeof(struct ot_data) + 2 * (size), 0);          \
		if (!event)                                                                        \
			return;                                                                    \
		for (i = 0; i < GATHER_PIECES && captured < transfer->left; i++) {                 \
			__u64 length;                                                              \
			if (i >= transfer->vector_left ||                                          \
			    bpf_probe_read_user(&element, sizeof(element),                         \
						(void *)(transfer->vector + i * sizeof(element)))) \
				break;                                                             \
			length = element.length;                                                   \
			if (length > transfer->left - captured)                                    \
				length = transfer->left - captured;                                \
			asm volatile("" : "+r"(length), "+r"(captured));                           \
			if (captured > (size) || length > (size))                                  \
				break;                                                             \
			if (bpf_probe_read_user(event->payload + captured, length,                 \
						(void *)element.base))                             \
				break;                                                             \
			captured += length;                                                        \
		}                                                                                  \
		if (!captured) {                                                                   \
			bpf_ringbuf_discard(event, BPF_RB_NO_WAKEUP);                              \
			return;                                                                    \
		}                                                                                  \
		fill_data(event, transfer, captured, captured, OT_CAPTURED);                       \
		bpf_ringbuf_submit(event, wake_flags());                                           \
	} while (0)

/* What cannot be gathered is left to be emitted piece by piece. */
static __always_inline void gather(struct transfer *transfer)
{
	struct user_iovec element;
	__u64 captured = 0;
	__u32 i;

	if (transfer->left <= 256)
		GATHER_CLASS(256);
	else if (transfer->left <= 1024)
		GATHER_CLASS(1024);
	else
		GATHER_CLASS(GATHER_BYTES);
	account(OT_CAPTURED, captured);
	transfer->offset += captured;
	transfer->left -= captured;
	transfer->vector += i * sizeof(element);
	transfer->vector_left -= i;
}

/* The next piece of a call; 1 when there is no more that can be copied. */
static __always_inline int emit_piece(struct transfer *transfer)
{
	__u64 length;

	if (!transfer->left)
		return 1;
	if (!transfer->piece_left) {
		struct user_iovec element;

		if (!transfer->vector_left ||
		    bpf_probe_read_user(&element, sizeof(element), (void *)transfer->vector))
			return 1;
		transfer->vector += sizeof(element);
		transfer->vector_left--;
		transfer->piece = element.base;
		transfer->piece_left = element.length;
		return 0;
	}
	length = transfer->piece_left;
	if (length > transfer->left)
		length = transfer->left;
	if (length > CHUNK_BYTES)
		length = CHUNK_BYTES;
	emit_bytes(transfer, length);
	transfer->piece += length;
	transfer->piece_left -= length;
	transfer->offset += length;
	transfer->left -= length;
	return !transfer->left;
}

/* Bytes that moved but are not copied: their count and time still arrive. */
static __always_inline void emit_gap(const struct transfer *transfer, __u32 reason)
{
	struct ot_data *event = bpf_ringbuf_reserve(&events, sizeof(struct ot_data), 0);

	account_missing(transfer->connection_id, reason, transfer->left);
	if (!event)
		return;
	fill_data(event, transfer, transfer->left, 0, reason);
	bpf_ringbuf_submit(event, wake_flags());
}

enum wanted { WANTED, NOT_WANTED, SHED };

/*
 * Whether the bytes of this call are to be copied; counts them otherwise. Nothing of a connection
 * that is shed, muted or of an unwanted process reaches the ring.
 */
static __always_inline enum wanted wanted(const struct transfer *transfer)
{
	struct ot_control *control = the_control();
	__u64 connection_id = transfer->connection_id;
	__u32 tgid = transfer->tgid;
	struct ot_wish *wish;

	if (!control)
		return NOT_WANTED;
	if (control->filtering && bpf_map_lookup_elem(&unwanted, &tgid)) {
		account_missing(connection_id, OT_FILTERED, transfer->left);
		return NOT_WANTED;
	}
	if (control->wishing) {
		wish = bpf_map_lookup_elem(&wishes, &connection_id);
		if (wish && wish->mute) {
			account_missing(connection_id, OT_MUTED, transfer->left);
			return NOT_WANTED;
		}
		if (wish) {
			__u32 direction = transfer->direction & 1;
			__u64 end = transfer->offset + transfer->left;

			if (transfer->offset >= wish->skip_begin[direction] &&
			    end <= wish->skip_end[direction]) {
				if (end == wish->skip_end[direction] ||
				    transfer->ktime_ns - wish->told_ktime_ns >= SKIP_TELL_NS) {
					wish->told_ktime_ns = transfer->ktime_ns;
					emit_gap(transfer, OT_SKIPPED);
				} else {
					account_missing(connection_id, OT_SKIPPED, transfer->left);
				}
				return NOT_WANTED;
			}
		}
	}
	if (transfer->share < control->shed) {
		account_missing(connection_id, OT_SHED, transfer->left);
		return SHED;
	}
	return WANTED;
}

static __noinline int emit_closed(__u64 connection_id, __u64 socket_id, __u32 tgid, __u32 reason)
{
	struct ot_closed *event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
	__u64 key = connection_id ? connection_id : socket_id;
	struct ot_missing *missed;

	if (!event) {
		account(OT_LOST_RING_FULL, 0);
		return -1;
	}
	event->header.type = OT_CLOSED;
	event->header.tgid = tgid;
	event->header.ktime_ns = bpf_ktime_get_ns();
	event->connection_id = connection_id;
	event->socket_id = socket_id;
	event->reason = reason;
	event->reserved = 0;
	missed = bpf_map_lookup_elem(&missing, &key);
	if (missed)
		event->missing = *missed;
	else
		__builtin_memset(&event->missing, 0, sizeof(event->missing));
	bpf_ringbuf_submit(event, BPF_RB_NO_WAKEUP);
	return 0;
}

/* Nothing more will be said of this connection. */
static __always_inline void forget_connection(__u64 connection_id)
{
	bpf_map_delete_elem(&missing, &connection_id);
	bpf_map_delete_elem(&wishes, &connection_id);
}

static __always_inline void fill_process(struct ot_process_started *event, struct task_struct *task,
					 __u32 tgid, __u64 start_boottime_ns)
{
	event->header.type = OT_PROCESS_STARTED;
	event->header.tgid = tgid;
	event->header.ktime_ns = bpf_ktime_get_ns();
	event->start_boottime_ns = start_boottime_ns;
	event->ppid = BPF_CORE_READ(task, real_parent, tgid);
	event->uid = (__u32)bpf_get_current_uid_gid();
	event->mount_namespace = 0;
	if (bpf_core_field_exists(struct mnt_namespace, ns.inum))
		event->mount_namespace = BPF_CORE_READ(task, nsproxy, mnt_ns, ns.inum);
	event->reserved = 0;
	bpf_get_current_comm(event->comm, sizeof(event->comm));
	event->filename[0] = 0;
}

/*
 * Announces the current process at its first connection of interest and wakes the agent, so that
 * it can read what /proc says while the process is still there.
 */
static __noinline int meet_process(__u32 tgid)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();
	__u64 start = BPF_CORE_READ(task, group_leader, start_boottime);
	__u64 *known = bpf_map_lookup_elem(&processes, &tgid);
	struct ot_process_started *event;

	if (known && *known == start)
		return 0;
	bpf_map_update_elem(&processes, &tgid, &start, BPF_ANY);
	event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
	if (!event) {
		account(OT_LOST_RING_FULL, 0);
		return 0;
	}
	fill_process(event, task, tgid, start);
	bpf_ringbuf_submit(event, BPF_RB_FORCE_WAKEUP);
	return 0;
}

#endif
