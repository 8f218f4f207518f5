/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * TLS sessions: their beginning, and finding the one of an SSL pointer.
 */
#ifndef OTEL_TAP_SESSIONS_H
#define OTEL_TAP_SESSIONS_H

#include "state.h"

#define TLS_APPLICATION_DATA 0x17

static __always_inline __u64 new_session_id(void)
{
	/* The top bit keeps them apart from socket numbers, the CPU apart from each other. */
	return 1ULL << 63 | bpf_ktime_get_ns() << 7 | (bpf_get_smp_processor_id() & 0x7f);
}

static __always_inline void begin_session(const struct session_key *key, __u8 from_start)
{
	struct session fresh = {};

	fresh.id = new_session_id();
	fresh.fd = -1;
	fresh.from_start = from_start;
	fresh.share = (fresh.id * 0x9e3779b97f4a7c15ULL) >> 56;
	if (bpf_map_update_elem(&sessions, key, &fresh, BPF_ANY))
		account(OT_LOST_STATE_FULL, 0);
}

/* The session of this pointer; one that began before the agent did begins here. */
static __always_inline struct session *find_session(const struct session_key *key)
{
	struct session *session = bpf_map_lookup_elem(&sessions, key);

	if (session)
		return session;
	begin_session(key, 0);
	return bpf_map_lookup_elem(&sessions, key);
}

/* The TLS call that the current thread is in, if any. */
static __always_inline struct tls_call *current_tls_call(__u64 pid_tgid)
{
	struct tls_calls *calls = bpf_map_lookup_elem(&tls_calls, &pid_tgid);

	if (!calls || calls->depth == 0 || calls->depth > TLS_CALL_DEPTH)
		return 0;
	return &calls->call[(calls->depth - 1) & (TLS_CALL_DEPTH - 1)];
}

#endif
