/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What is remembered of descriptors, sessions and calls in progress. */

#define CHUNK_BYTES 16384
#define MAX_PIECES  64 /* chunks and vector elements of one call that are copied: 1 MiB */
#define LOOK_BYTES  24

/* Looks granted to a stream seen since its first byte, and to one met in the middle. */
#define LOOKS_FROM_START 4
#define LOOKS_MID_STREAM 64

#define TLS_CALL_DEPTH	     2
#define NO_DIRECTION	     2 /* a handshake: no plaintext, but socket calls inside it */
#define TLS_APPLICATION_DATA 0x17

#define AF_UNSPEC_	 0
#define AF_INET_	 2
#define AF_INET6_	 10
#define MSG_PEEK_	 2
#define SHUT_RD_	 0
#define EAGAIN_		 11
#define EPIPE_		 32
#define ECONNRESET_	 104
#define EINPROGRESS_	 115
#define F_DUPFD_	 0
#define F_DUPFD_CLOEXEC_ 1030
#define USER_CODE_64	 0x33 /* code segment of 64-bit programs */
#define WAKE		 BPF_RB_FORCE_WAKEUP
#define QUIET		 BPF_RB_NO_WAKEUP

enum verdict {
	VERDICT_OPEN = 0,
	VERDICT_HTTP = 1,
	VERDICT_TLS = 2,
	VERDICT_OTHER = 3,
};

/* A descriptor of a process, from the call that made it to the one that closes it. */
struct fd_key {
	__u32 tgid;
	__s32 fd;
};

struct fd_state {
	__u64 id; /* of this life of the descriptor, and of the plain connection at it */
	__u64 offset[2];
	__u8 verdict;
	__u8 looks;
	__u8 from_start;
	__u8 announced;
	__u8 bound; /* a TLS session uses it */
	__u8 reserved;
	__u16 peer_port; /* as the process gave or got it; 0 unknown */
	__u8 peer_address[16];
	__u32 listener; /* 1 + the descriptor that it was accepted from, 0 none */
	__u32 reserved2;
};

struct session_key {
	__u64 ssl;
	__u32 tgid;
	__u32 reserved;
};

struct session {
	__u64 id;
	__u64 fd_id; /* life of the descriptor that it is bound to, 0 none */
	__u64 offset[2];
	__s32 fd;
	__u8 verdict;
	__u8 looks;
	__u8 from_start;
	__u8 announced;
	__u8 evidence;
	__u8 reserved[7];
};

struct tls_call {
	__u64 ssl;
	__u64 buffer;
	__u64 length_pointer;
	__u64 begin_ktime_ns;
	__u32 nested;
	__u8 direction;
	__u8 zero_is_end;
	__u8 reserved[2];
};

/* One call's bytes on their way into the ring; in a map value, where the verifier forgets them. */
struct transfer {
	__u64 begin_ktime_ns;
	__u64 ktime_ns;
	__u64 connection_id;
	__u64 offset;
	__u64 vector;
	__u64 piece;
	__u64 piece_left;
	__u64 left;
	__u32 vector_left;
	__u32 tgid;
	__u32 tid;
	__u16 direction;
	__u16 reserved;
};

struct tls_calls {
	struct tls_call call[TLS_CALL_DEPTH];
	struct transfer transfer;
	__u32 depth;
	__u32 reserved;
};

struct ciphertext_key {
	__u8 byte[LOOK_BYTES];
	__u32 tgid;
	__u32 reserved;
};

struct ciphertext_owner {
	__u64 ssl;
	__u64 session_id;
};

struct first_bytes {
	__u8 byte[LOOK_BYTES];
};

/* Structures of user space: they belong to the system call interface and never change. */
struct user_vector {
	__u64 base;
	__u64 length;
};

struct user_message {
	__u64 name;
	__u64 name_length;
	__u64 vector;
	__u64 vector_count;
};

struct user_address {
	__u16 family;
	__u16 port;
	__u8 rest[24]; /* IPv4: the address first; IPv6: flow label, then the address */
};

BPF_RINGBUF_OUTPUT(events, RING_PAGES);
BPF_TABLE("percpu_array", __u32, struct ot_account, accounts, OT_ACCOUNTS);
BPF_TABLE("lru_hash", struct fd_key, struct fd_state, descriptors, 65536);
BPF_TABLE("lru_hash", struct session_key, struct session, sessions, 65536);
BPF_TABLE("lru_hash", __u64, struct tls_calls, calls, 16384);
BPF_TABLE("lru_hash", struct ciphertext_key, struct ciphertext_owner, ciphertexts, 16384);
BPF_TABLE("lru_hash", __u32, __u8, processes, 16384);
BPF_TABLE("lru_hash", __u64, __u8, muted, 65536);    /* connection ids; written by the agent */
BPF_TABLE("lru_hash", __u32, __u8, unwanted, 16384); /* processes; written by the agent */
/* The tracepoint cannot be preempted; TLS calls have a transfer of their thread's own. */
BPF_TABLE("percpu_array", __u32, struct transfer, transfers, 1);

static void count(__u32 of, __u64 bytes)
{
	struct ot_account *total = accounts.lookup(&of);

	if (total) {
		total->events++;
		total->bytes += bytes;
	}
}

static __u64 new_id(__u64 top)
{
	return top << 63 | 1ULL << 62 | bpf_ktime_get_ns() << 7 |
	       (bpf_get_smp_processor_id() & 0x7f);
}
