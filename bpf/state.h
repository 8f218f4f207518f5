/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The tables that all programs share. Every object declares them alike; the loader creates them
 * once and hands them to the others by name.
 */
#ifndef OTEL_TAP_STATE_H
#define OTEL_TAP_STATE_H

#include <linux/bpf.h>
#include <linux/types.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

#include "kernel_types.h"
#include "otel_tap.h"

#define AF_INET	    2
#define AF_INET6    10
#define SOCK_STREAM 1
#define IPPROTO_TCP 6

#define TCP_ESTABLISHED 1
#define TCP_SYN_SENT	2
#define TCP_FIN_WAIT1	4
#define TCP_TIME_WAIT	6
#define TCP_CLOSE	7
#define TCP_CLOSE_WAIT	8
#define TCP_LAST_ACK	9
#define TCP_CLOSING	11

/* What the first bytes of a connection said. */
enum verdict {
	VERDICT_OPEN = 0,  /* nothing yet: look at the next bytes */
	VERDICT_HTTP = 1,  /* copy */
	VERDICT_TLS = 2,   /* ciphertext: never copied, but its offsets place TLS records */
	VERDICT_OTHER = 3, /* neither: no further look */
};

/* Addresses of a socket: IPv6 or IPv4 mapped, ports in host order. */
struct flow {
	__u8 local_address[16];
	__u8 peer_address[16];
	__u16 local_port;
	__u16 peer_port;
} __attribute__((aligned(4)));

/* A TCP socket, by the number of its inode (unique among live sockets, the same in every process).
 */
struct socket_state {
	__u64 sk;
	__u64 session_id; /* TLS session bound to it, 0 none */
	__u64 ssl;	  /* the pointer of a session that was seen from its start, 0 otherwise */
	__u64 offset[2];  /* stream offset behind the last byte seen, per direction */
	__u32 sequence[2];
	__u32 iss;
	__u32 irs;
	__u8 verdict;
	__u8 looks;
	__u8 from_start;
	__u8 announced;
	__u8 share;	  /* alike at both ends: which connections are shed first */
	__u8 shed;	  /* it is left out, and the agent was told */
	__u8 ended;	  /* ot_close_reason once TCP was done with it, 0 before */
	__u8 tunnel;	  /* it began with CONNECT: TLS records may follow the HTTP */
	struct flow flow; /* as first seen: a closed socket forgets its ports */
};

/* A TLS session, by process and SSL pointer. */
struct session_key {
	__u64 ssl;
	__u32 tgid;
	__u32 reserved;
};

struct session {
	__u64 id;
	__u64 socket_id; /* 0 while unbound */
	__u64 offset[2]; /* plaintext */
	__s32 fd;
	__u8 verdict;
	__u8 looks;
	__u8 from_start;
	__u8 announced;
	__u8 evidence;
	__u8 share;
	__u8 shed;
	__u8 reserved[5];
};

/*
 * One call's bytes on their way into the ring. It lies in a map value, never on the stack: there
 * the verifier does not follow its contents, which keeps the copying loop small to verify.
 */
struct transfer {
	__u64 begin_ktime_ns;
	__u64 ktime_ns;
	__u64 connection_id;
	__u64 offset;
	__s64 tcp_position;
	__u64 vector; /* user_iovec *, 0: all bytes lie in one piece at `piece` */
	__u64 piece;  /* current piece: address and what is left of it */
	__u64 piece_left;
	__u64 left; /* bytes of the whole call still to be emitted */
	__u32 vector_left;
	__u32 tgid;
	__u32 tid;
	__u16 direction;
	__u16 share;
};

/*
 * How a session without a socket of its own (memory BIO: asyncio, Node) is met again: the first
 * bytes of a record it encrypted. The record's header and 19 bytes of ciphertext or nonce.
 */
#define CIPHERTEXT_BYTES 24

struct ciphertext_key {
	__u8 byte[CIPHERTEXT_BYTES];
	__u32 tgid;
	__u32 reserved;
};

struct ciphertext_owner {
	__u64 ssl;
	__u64 session_id;
};

/* A TLS call in progress on a thread; two deep for TLS inside TLS. */
struct tls_call {
	__u64 ssl;
	__u64 buffer;
	__u64 length_pointer; /* size_t * of the forms that have one, 0 otherwise */
	__u64 begin_ktime_ns;
	__u64 moved_ktime_ns; /* when its last socket call returned, 0 none */
	__s64 tcp_position;   /* of the first application record moved inside the call */
	__u32 nested;	      /* the same call entered again below itself (wrappers) */
	__u8 direction;
	__u8 zero_is_end; /* a result of 0 says that the stream ended, nothing else */
	__u8 reserved[2];
};

#define TLS_CALL_DEPTH 2

struct tls_calls {
	struct tls_call call[TLS_CALL_DEPTH];
	struct transfer transfer;
	__u32 depth;
	__u32 reserved;
};

/* Set by the loader before the programs are loaded, so that what is off costs nothing. */
const volatile struct {
	__u32 agent_tgid;
	__u32 only_chosen; /* of sockets, only those of processes in `chosen` are looked at */
} constants = {};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 32 << 20);
} events SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, OT_ACCOUNTS);
	__type(key, __u32);
	__type(value, struct ot_account);
} accounts SEC(".maps");

/* Only connections that miss something are here. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, __u64); /* connection id */
	__type(value, struct ot_missing);
} missing SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct ot_control);
} control SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 65536);
	__type(key, __u64);
	__type(value, struct socket_state);
} sockets SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 65536);
	__type(key, __u64); /* struct sock * */
	__type(value, __u64);
} socket_ids SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 65536);
	__type(key, struct session_key);
	__type(value, struct session);
} sessions SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, __u64); /* tgid << 32 | tid */
	__type(value, struct tls_calls);
} tls_calls SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, struct ciphertext_key);
	__type(value, struct ciphertext_owner);
} ciphertexts SEC(".maps");

/* Transfers of system calls: their tracepoint cannot be preempted. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct transfer);
} transfers SEC(".maps");

/* Processes that were announced: tgid -> start time, nanoseconds of CLOCK_BOOTTIME. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, __u32);
	__type(value, __u64);
} processes SEC(".maps");

/* Written by the agent. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 65536);
	__type(key, __u64); /* connection id */
	__type(value, struct ot_wish);
} wishes SEC(".maps");

/* Processes that are not wanted: written by the agent, forgotten at their next exec. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, __u32); /* tgid */
	__type(value, __u8);
} unwanted SEC(".maps");

/* Which message of a sendmmsg or recvmmsg a thread is at. */
struct message_turn {
	__u64 messages;
	__u64 index;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, __u64); /* tgid << 32 | tid */
	__type(value, struct message_turn);
} message_turns SEC(".maps");

/* The agent's own outgoing connections: the far end of them is never captured either. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1024);
	__type(key, __u64); /* struct sock * */
	__type(value, __u8);
} own_sockets SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1024);
	__type(key, struct flow);
	__type(value, __u8);
} own_flows SEC(".maps");

/* The processes that the agent was started for, and the children of its self-checks. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 64);
	__type(key, __u32); /* tgid */
	__type(value, __u8);
} chosen SEC(".maps");

static __always_inline int is_watched(__u32 tgid)
{
	return tgid != constants.agent_tgid &&
	       (!constants.only_chosen || bpf_map_lookup_elem(&chosen, &tgid));
}

static __always_inline void account(__u32 of, __u64 bytes)
{
	struct ot_account *total = bpf_map_lookup_elem(&accounts, &of);

	if (total) {
		total->events++;
		total->bytes += bytes;
	}
}

static const struct ot_missing nothing_missing;

/* Bytes of a connection that the agent does not get, counted for all and for the connection. */
static __noinline int account_missing(__u64 connection_id, __u32 of, __u64 bytes)
{
	struct ot_missing *missed = bpf_map_lookup_elem(&missing, &connection_id);

	account(of, bytes);
	if (!missed) {
		bpf_map_update_elem(&missing, &connection_id, &nothing_missing, BPF_NOEXIST);
		missed = bpf_map_lookup_elem(&missing, &connection_id);
		if (!missed)
			return 0;
	}
	if (of == OT_SHED)
		__sync_fetch_and_add(&missed->shed, bytes);
	else if (of == OT_FILTERED)
		__sync_fetch_and_add(&missed->filtered, bytes);
	else if (of == OT_SKIPPED)
		__sync_fetch_and_add(&missed->skipped, bytes);
	else if (of != OT_MUTED)
		__sync_fetch_and_add(&missed->lost, bytes);
	return 0;
}

#endif
