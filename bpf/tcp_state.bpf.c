// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * How connections end, and which ones the agent itself opened, from TCP's own state changes.
 *
 * A close() in one process says nothing while another one holds the same socket; TCP leaves
 * ESTABLISHED only at the last one.
 */
#include <linux/bpf.h>

#include "sockets.h"
#include "state.h"

SEC("raw_tp/inet_sock_set_state")
int tcp_state_change(struct bpf_raw_tracepoint_args *ctx)
{
	struct sock *sk = (struct sock *)ctx->args[0];
	int old_state = ctx->args[1], new_state = ctx->args[2];
	__u64 key = (__u64)sk, id, *socket_id;
	struct socket_state *state;
	__u32 reason, tgid;

	if (BPF_CORE_READ(sk, sk_protocol) != IPPROTO_TCP)
		return 0;
	if (new_state == TCP_SYN_SENT) {
		__u8 one = 1;

		/* connect(): in the process's own context. */
		tgid = bpf_get_current_pid_tgid() >> 32;
		if (tgid == constants.agent_tgid)
			bpf_map_update_elem(&own_sockets, &key, &one, BPF_ANY);
		else if (is_watched(tgid))
			meet_process(tgid);
		return 0;
	}
	if (new_state == TCP_ESTABLISHED) {
		struct flow flow;
		__u8 one = 1;

		bpf_map_delete_elem(&socket_ids, &key);
		if (bpf_map_lookup_elem(&own_sockets, &key)) {
			read_flow(&flow, sk);
			bpf_map_update_elem(&own_flows, &flow, &one, BPF_ANY);
		}
		return 0;
	}
	if (new_state != TCP_FIN_WAIT1 && new_state != TCP_LAST_ACK && new_state != TCP_CLOSE)
		return 0;
	if (new_state == TCP_CLOSE)
		bpf_map_delete_elem(&own_sockets, &key);
	socket_id = bpf_map_lookup_elem(&socket_ids, &key);
	if (!socket_id)
		return 0;
	id = *socket_id;
	state = bpf_map_lookup_elem(&sockets, &id);
	if (new_state == TCP_CLOSE)
		bpf_map_delete_elem(&socket_ids, &key);
	if (!state || state->sk != key)
		return 0;
	reason = OT_EGRESS_END;
	if (new_state == TCP_CLOSE) {
		reason = OT_CONNECTION_CLOSED;
		if (BPF_CORE_READ(sk, sk_err) || old_state == TCP_ESTABLISHED ||
		    old_state == TCP_CLOSE_WAIT)
			reason = OT_CONNECTION_RESET;
		state->ended = reason;
	}
	if (state->announced || state->session_id)
		emit_closed(0, id, 0, reason);
	if (new_state == TCP_CLOSE)
		forget_connection(id);
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
