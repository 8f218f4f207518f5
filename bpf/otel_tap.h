/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The wire format between the kernel side and the agent: what lies in the ring buffer.
 *
 * No kernel types; fixed-width fields, naturally aligned, no padding that is not named.
 * otel_tap/capture/wire.py mirrors it; a test compares sizes and offsets of both.
 */
#ifndef OTEL_TAP_H
#define OTEL_TAP_H

#include <linux/types.h>

enum ot_event_type {
	OT_DATA = 1,
	OT_OPENED = 2,
	OT_CLOSED = 3,
	OT_PROCESS_STARTED = 4,
	OT_PROCESS_EXITED = 5,
};

enum ot_direction {
	OT_INGRESS = 0, /* the process read */
	OT_EGRESS = 1,	/* the process wrote */
};

enum ot_tls {
	OT_TLS_NONE = 0,
	OT_TLS_OPENSSL = 1,
};

enum ot_evidence {
	OT_EVIDENCE_NONE = 0,
	OT_EVIDENCE_SOCKET = 1,
	OT_EVIDENCE_NESTED_CALL = 2,
	OT_EVIDENCE_CIPHERTEXT = 3,
};

enum ot_close_reason {
	OT_INGRESS_END = 1,
	OT_EGRESS_END = 2,
	OT_CONNECTION_CLOSED = 3,
	OT_CONNECTION_RESET = 4,
	OT_SHED_FROM_HERE = 5, /* nothing ended, but what follows is left out */
};

/*
 * What became of bytes that moved at tapped connections: index into the per-CPU accounts, and the
 * reason in an event whose bytes were not copied. Every byte is in exactly one of them.
 */
enum ot_account_of {
	OT_CAPTURED = 0,
	OT_LOST_RING_FULL = 1,
	OT_LOST_UNREADABLE = 2,
	OT_LOST_TRUNCATED = 3,
	OT_LOST_STATE_FULL = 4,
	OT_LOST_SENDFILE = 5,
	OT_LOST_UNSEEN = 6, /* no call that could be read moved them: io_uring */
	OT_SHED = 7,	    /* the agent cannot keep up */
	OT_FILTERED = 8,    /* the process is not wanted */
	OT_MUTED = 9,	    /* the connection turned out not to be HTTP */
	OT_SKIPPED = 10,    /* of a body, beyond what is kept of it */
	OT_ACCOUNTS = 11,
};

struct ot_account {
	__u64 events;
	__u64 bytes;
};

/* Of one connection: bytes that did not reach the agent. */
struct ot_missing {
	__u64 lost;
	__u64 shed;
	__u64 filtered;
	__u64 skipped;
};

/* What the agent tells the kernel side; mapped into its memory. */
struct ot_control {
	__u32 waiting;	  /* the agent sleeps: wake it when the ring is filled so far */
	__u32 wake_bytes; /* fill of the ring */
	__u32 shed;	  /* connections whose share is below are not copied: 0 none, 256 all */
	__u32 filtering;  /* some processes are not wanted */
	__u32 wishing;	  /* some connections have a wish */
	__u32 reserved;
};

/* What the agent does not want of a connection. */
struct ot_wish {
	__u64 skip_begin[2]; /* stream offsets, per direction */
	__u64 skip_end[2];
	__u64 told_ktime_ns; /* when skipped bytes were last told of; written by the kernel side */
	__u8 mute;
	__u8 reserved[7];
};

struct ot_header {
	__u32 type;
	__u32 tgid;
	__u64 ktime_ns;
};

struct ot_data {
	struct ot_header header;
	__u64 begin_ktime_ns;
	__u64 connection_id;
	__u64 offset;	    /* of the first byte, absolute in its stream */
	__s64 tcp_position; /* TCP stream offset of the carrying TLS record, -1 unknown */
	__u32 tid;
	__u32 length;	/* bytes that moved */
	__u32 captured; /* of them in payload */
	__u16 direction;
	__u16 reason; /* ot_account_of of the others */
	__u8 payload[];
};

struct ot_opened {
	struct ot_header header;
	__u64 connection_id;
	__u64 socket_id;
	__u8 local_address[16]; /* IPv6, or IPv4 mapped */
	__u8 peer_address[16];
	__u16 local_port; /* host order; both 0 when unbound */
	__u16 peer_port;
	__u32 iss;
	__u32 irs;
	__s32 fd;
	__u8 tls;
	__u8 evidence;
	__u8 from_start;
	__u8 has_addresses;
	__u32 reserved;
	__u64 begins[2]; /* where telling of each stream begins, OT_UNKNOWN_BEGIN */
};

#define OT_UNKNOWN_BEGIN 0xffffffffffffffffULL

struct ot_closed {
	struct ot_header header;
	__u64 connection_id; /* 0: about the socket */
	__u64 socket_id;
	__u32 reason;
	__u32 reserved;
	struct ot_missing missing;
};

#define OT_COMM_LENGTH	   16
#define OT_FILENAME_LENGTH 128

struct ot_process_started {
	struct ot_header header;
	__u64 start_boottime_ns;
	__u32 ppid;
	__u32 uid;
	__u32 mount_namespace; /* inode number, 0 unknown */
	__u32 reserved;
	char comm[OT_COMM_LENGTH];
	char filename[OT_FILENAME_LENGTH];
};

struct ot_process_exited {
	struct ot_header header;
};

#endif
