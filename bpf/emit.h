/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Events into the ring: reserve, fill, submit. Nobody is woken for bytes: the agent drains by a
 * timer (a wake-up costs the traced program more than the whole probe).
 */
#ifndef OTEL_TAP_EMIT_H
#define OTEL_TAP_EMIT_H

#include "state.h"

#define CHUNK_BYTES 131072

/* Chunks and vector elements of one call that are copied; the rest is a stated gap. */
#define MAX_PIECES 64

static __always_inline void fill_data(struct ot_data *event, const struct transfer *transfer,
				      __u32 length, __u32 captured)
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
}

/* The ring wants constant sizes: the payload goes into the smallest class that holds it. */
#define EMIT_CLASS(size)                                                                           \
	do {                                                                                       \
		struct ot_data *event =                                                            \
		    bpf_ringbuf_reserve(&events, sizeof(struct ot_data) + (size), 0);              \
		if (!event) {                                                                      \
			count_loss(OT_LOST_RING_FULL, length);                                     \
			return;                                                                    \
		}                                                                                  \
		__u64 captured = length;                                                           \
		/* Hides from clang what it knows, so that the verifier is told it too. */         \
		asm volatile("" : "+r"(captured));                                                 \
		if (captured > (size))                                                             \
			captured = (size);                                                         \
		if (bpf_probe_read_user(event->payload, captured, (void *)transfer->piece)) {      \
			captured = 0;                                                              \
			count_loss(OT_LOST_UNREADABLE, length);                                    \
		}                                                                                  \
		fill_data(event, transfer, length, captured);                                      \
		bpf_ringbuf_submit(event, BPF_RB_NO_WAKEUP);                                       \
	} while (0)

static __always_inline void emit_piece(const struct transfer *transfer, __u32 length)
{
	if (length <= 256)
		EMIT_CLASS(256);
	else if (length <= 1024)
		EMIT_CLASS(1024);
	else if (length <= 4096)
		EMIT_CLASS(4096);
	else if (length <= 16384)
		EMIT_CLASS(16384);
	else if (length <= 65536)
		EMIT_CLASS(65536);
	else
		EMIT_CLASS(CHUNK_BYTES);
}

/* Bytes that moved but are not copied: their count and time still arrive. */
static __always_inline void emit_gap(const struct transfer *transfer, __u32 reason)
{
	struct ot_data *event = bpf_ringbuf_reserve(&events, sizeof(struct ot_data), 0);

	count_loss(reason, transfer->left);
	if (!event)
		return;
	fill_data(event, transfer, transfer->left, 0);
	bpf_ringbuf_submit(event, BPF_RB_NO_WAKEUP);
}

static __noinline int emit_transfer(struct transfer *transfer)
{
	struct user_iovec element;
	__u32 i;

	if (!transfer)
		return 0;
	for (i = 0; i < MAX_PIECES; i++) {
		__u64 length;

		if (!transfer->left)
			return 0;
		if (!transfer->piece_left) {
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
		emit_piece(transfer, length);
		transfer->piece += length;
		transfer->piece_left -= length;
		transfer->offset += length;
		transfer->left -= length;
	}
	if (transfer->left)
		emit_gap(transfer, OT_LOST_TRUNCATED);
	return 0;
}

static __always_inline void emit_closed(__u64 connection_id, __u64 socket_id, __u32 tgid,
					__u32 reason)
{
	struct ot_closed *event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);

	if (!event) {
		count_loss(OT_LOST_RING_FULL, 0);
		return;
	}
	event->header.type = OT_CLOSED;
	event->header.tgid = tgid;
	event->header.ktime_ns = bpf_ktime_get_ns();
	event->connection_id = connection_id;
	event->socket_id = socket_id;
	event->reason = reason;
	event->reserved = 0;
	bpf_ringbuf_submit(event, BPF_RB_NO_WAKEUP);
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
		count_loss(OT_LOST_RING_FULL, 0);
		return 0;
	}
	fill_process(event, task, tgid, start);
	bpf_ringbuf_submit(event, BPF_RB_FORCE_WAKEUP);
	return 0;
}

#endif
