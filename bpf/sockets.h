/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * TCP sockets: from a file descriptor to a socket, its addresses, its place in the TCP streams.
 *
 * Stream offsets are TCP's own: bytes since the initial sequence number. They are right for a
 * connection met in the middle, and bytes that moved unseen (sendfile, io_uring) show as a jump.
 */
#ifndef OTEL_TAP_SOCKETS_H
#define OTEL_TAP_SOCKETS_H

#include "emit.h"
#include "state.h"

#define S_IFMT	 0170000
#define S_IFSOCK 0140000

struct socket_of_fd {
	struct sock *sk;
	__u64 id;
};

/* The TCP socket behind `fd` of the current task; 0 when it is none. */
static __always_inline int find_socket(struct socket_of_fd *out, __u32 fd)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();
	struct fdtable *table = BPF_CORE_READ(task, files, fdt);
	struct file **array, *file = 0;
	struct inode *inode;
	struct socket *socket;
	struct sock *sk;
	__u16 family;

	if (fd >= BPF_CORE_READ(table, max_fds))
		return 0;
	array = BPF_CORE_READ(table, fd);
	bpf_probe_read_kernel(&file, sizeof(file), &array[fd]);
	if (!file)
		return 0;
	inode = BPF_CORE_READ(file, f_inode);
	if ((BPF_CORE_READ(inode, i_mode) & S_IFMT) != S_IFSOCK)
		return 0;
	socket = BPF_CORE_READ(file, private_data);
	sk = BPF_CORE_READ(socket, sk);
	if (!sk)
		return 0;
	family = BPF_CORE_READ(sk, __sk_common.skc_family);
	if ((family != AF_INET && family != AF_INET6) ||
	    BPF_CORE_READ(sk, sk_type) != SOCK_STREAM ||
	    BPF_CORE_READ(sk, sk_protocol) != IPPROTO_TCP)
		return 0;
	out->sk = sk;
	out->id = BPF_CORE_READ(inode, i_ino);
	return 1;
}

/* The same at both ends, so that overload keeps or sheds whole exchanges. */
static __always_inline __u8 share_of(const struct flow *flow)
{
	const __u32 *local = (const __u32 *)flow->local_address;
	const __u32 *peer = (const __u32 *)flow->peer_address;
	__u32 mixed = (__u32)flow->local_port ^ flow->peer_port;
	int i;

	for (i = 0; i < 4; i++)
		mixed = (mixed ^ local[i] ^ peer[i]) * 0x9e3779b1;
	return mixed >> 24;
}

static __always_inline void map_ipv4(__u8 *address, __be32 ipv4)
{
	__builtin_memset(address, 0, 10);
	address[10] = 0xff;
	address[11] = 0xff;
	__builtin_memcpy(address + 12, &ipv4, 4);
}

static __always_inline void read_flow(struct flow *flow, struct sock *sk)
{
	if (BPF_CORE_READ(sk, __sk_common.skc_family) == AF_INET) {
		map_ipv4(flow->local_address, BPF_CORE_READ(sk, __sk_common.skc_rcv_saddr));
		map_ipv4(flow->peer_address, BPF_CORE_READ(sk, __sk_common.skc_daddr));
	} else {
		BPF_CORE_READ_INTO(&flow->local_address, sk,
				   __sk_common.skc_v6_rcv_saddr.in6_u.u6_addr8);
		BPF_CORE_READ_INTO(&flow->peer_address, sk,
				   __sk_common.skc_v6_daddr.in6_u.u6_addr8);
	}
	flow->local_port = BPF_CORE_READ(sk, __sk_common.skc_num);
	flow->peer_port = __builtin_bswap16(BPF_CORE_READ(sk, __sk_common.skc_dport));
}

/* Is the far end of this flow the agent itself? */
static __always_inline int is_own_flow(const struct flow *flow)
{
	struct flow reverse;

	__builtin_memcpy(reverse.local_address, flow->peer_address, 16);
	__builtin_memcpy(reverse.peer_address, flow->local_address, 16);
	reverse.local_port = flow->peer_port;
	reverse.peer_port = flow->local_port;
	return bpf_map_lookup_elem(&own_flows, &reverse) != 0;
}

static __always_inline __u32 stream_sequence(struct sock *sk, __u32 direction)
{
	struct tcp_sock *tcp = (struct tcp_sock *)sk;

	if (direction == OT_EGRESS)
		return BPF_CORE_READ(tcp, write_seq);
	return BPF_CORE_READ(tcp, copied_seq);
}

static __always_inline int fin_received(struct sock *sk)
{
	__u8 state = BPF_CORE_READ(sk, __sk_common.skc_state);

	return state == TCP_CLOSE_WAIT || state == TCP_LAST_ACK || state == TCP_CLOSING ||
	       state == TCP_TIME_WAIT || state == TCP_CLOSE;
}

/*
 * A socket met for the first time. Acknowledgements move two counters together while they are
 * read here, so they are read until both reads agree.
 */
static __always_inline void begin_socket(struct socket_state *state, struct sock *sk)
{
	struct tcp_sock *tcp = (struct tcp_sock *)sk;
	__u8 tcp_state = BPF_CORE_READ(sk, __sk_common.skc_state);
	__u32 una, next, write_sequence, read_sequence;
	__u64 acked, received;
	int i;

	__builtin_memset(state, 0, sizeof(*state));
	state->sk = (__u64)sk;
	read_flow(&state->flow, sk);
	state->share = share_of(&state->flow);
	for (i = 0; i < 3; i++) {
		una = BPF_CORE_READ(tcp, snd_una);
		acked = BPF_CORE_READ(tcp, bytes_acked);
		if (una == BPF_CORE_READ(tcp, snd_una))
			break;
	}
	for (i = 0; i < 3; i++) {
		next = BPF_CORE_READ(tcp, rcv_nxt);
		received = BPF_CORE_READ(tcp, bytes_received);
		if (next == BPF_CORE_READ(tcp, rcv_nxt))
			break;
	}
	write_sequence = stream_sequence(sk, OT_EGRESS);
	read_sequence = stream_sequence(sk, OT_INGRESS);
	state->iss = una - (__u32)acked;
	state->irs = next - (__u32)received;
	/* A FIN takes one sequence number that is no byte. */
	if (tcp_state == TCP_CLOSE_WAIT || tcp_state == TCP_LAST_ACK || tcp_state == TCP_CLOSING ||
	    tcp_state == TCP_TIME_WAIT)
		state->irs--;
	state->sequence[OT_EGRESS] = write_sequence;
	state->sequence[OT_INGRESS] = read_sequence;
	/* 64 bits: whole wraps of the sequence number are in the byte counters. */
	state->offset[OT_EGRESS] = acked + (__u32)(write_sequence - una);
	state->offset[OT_INGRESS] = received - (__u32)(next - read_sequence);
	if (state->irs != next - (__u32)received)
		state->offset[OT_INGRESS]++;
	if (tcp_state == TCP_CLOSE) {
		state->iss = 0;
		state->irs = 0;
	}
}

static __always_inline void emit_opened(__u64 connection_id, __u64 socket_id,
					const struct socket_state *state, __u32 tgid, __s32 fd,
					__u8 tls, __u8 evidence, __u8 from_start,
					__u64 ingress_begin, __u64 egress_begin)
{
	struct ot_opened *event;

	meet_process(tgid);
	event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
	if (!event) {
		account(OT_LOST_RING_FULL, 0);
		return;
	}
	event->header.type = OT_OPENED;
	event->header.tgid = tgid;
	event->header.ktime_ns = bpf_ktime_get_ns();
	event->connection_id = connection_id;
	event->socket_id = socket_id;
	event->fd = fd;
	event->tls = tls;
	event->evidence = evidence;
	event->from_start = from_start;
	event->reserved = 0;
	event->begins[OT_INGRESS] = ingress_begin;
	event->begins[OT_EGRESS] = egress_begin;
	if (state) {
		__builtin_memcpy(event->local_address, state->flow.local_address, 16);
		__builtin_memcpy(event->peer_address, state->flow.peer_address, 16);
		event->local_port = state->flow.local_port;
		event->peer_port = state->flow.peer_port;
		event->has_addresses = state->flow.peer_port != 0;
		event->iss = state->iss;
		event->irs = state->irs;
	} else {
		__builtin_memset(event->local_address, 0, 16);
		__builtin_memset(event->peer_address, 0, 16);
		event->local_port = 0;
		event->peer_port = 0;
		event->has_addresses = 0;
		event->iss = 0;
		event->irs = 0;
	}
	bpf_ringbuf_submit(event, BPF_RB_NO_WAKEUP);
	/* A peer can be gone before the call that met it returned. */
	if (state && state->ended)
		emit_closed(0, socket_id, tgid, state->ended);
}

#endif
