// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Bytes at TCP sockets, taken where the kernel says that a socket moved some (since 6.3). Calls
 * on files, pipes and anything else that is no socket pay nothing.
 *
 * The call is still under way there: its arguments are in the task's saved registers.
 */
#include "socket_bytes.h"

/*
 * sendmmsg and recvmmsg move one message after the other; which one this is, is counted. They
 * stop at an error and after the last one; sendmmsg also at a message that moved only partly.
 */
static __always_inline void take_message_turn(struct socket_call *call, long result)
{
	__u64 pid_tgid = bpf_get_current_pid_tgid(), whole = 0;
	struct message_turn turn = {.messages = call->pointer}, *last;
	struct user_mmsghdr message;
	struct user_iovec element;
	__u64 count = call->count;
	int i;

	last = bpf_map_lookup_elem(&message_turns, &pid_tgid);
	if (last && last->messages == call->pointer)
		turn.index = last->index;
	call->kind = CALL_MESSAGE;
	call->pointer += turn.index * sizeof(message);
	if (bpf_probe_read_user(&message, sizeof(message), (void *)call->pointer))
		result = -1;
	for (i = 0; i < MAX_MESSAGES && call->direction == OT_EGRESS && result > 0; i++) {
		if (i >= message.header.iov_count)
			break;
		if (bpf_probe_read_user(&element, sizeof(element),
					(void *)(message.header.iov + i * sizeof(element))))
			break;
		whole += element.length;
	}
	turn.index++;
	if (result <= 0 || (__u64)result < whole || turn.index >= count)
		bpf_map_delete_elem(&message_turns, &pid_tgid);
	else
		bpf_map_update_elem(&message_turns, &pid_tgid, &turn, BPF_ANY);
}

/* The system call that is under way. Of bytes that any other call moved only the number is known.
 */
static __always_inline void read_call(struct socket_call *call, long result)
{
	const struct pt_regs___kernel *regs =
	    (const void *)bpf_task_pt_regs(bpf_get_current_task_btf());
	struct syscall_arguments args;
	__u32 shape = 0;

	call->fd = -1;
	call->kind = CALL_UNKNOWN;
	if (regs)
		shape = shape_of_call(known_syscall_number(regs));
	if (!shape || SHAPE_DIRECTION(shape) != call->direction)
		return;
	known_syscall_arguments(regs, &args);
	call->fd = SHAPE_FD_ARGUMENT(shape) ? args.arg[2] : args.arg[0];
	/* When recvmmsg runs out of time nothing says so: its next call could not be told apart. */
	if (SHAPE_KIND(shape) == CALL_MESSAGES && call->direction == OT_INGRESS && args.arg[4])
		return;
	call->kind = SHAPE_KIND(shape);
	call->pointer = args.arg[1];
	call->count = args.arg[2];
	if (call->kind == CALL_MESSAGES)
		take_message_turn(call, result);
}

static __always_inline int moves_messages(void)
{
	const struct pt_regs___kernel *regs =
	    (const void *)bpf_task_pt_regs(bpf_get_current_task_btf());

	return regs && SHAPE_KIND(shape_of_call(known_syscall_number(regs))) == CALL_MESSAGES;
}

static __always_inline int socket_length(struct sock *sk, int result, int flags, __u32 direction)
{
	struct socket_call *call;
	struct tcp_sock *tcp;
	__u64 socket_id;

	if (!is_watched(bpf_get_current_pid_tgid() >> 32))
		return 0;
	/* Nothing was there to read, mostly. An error may end the turns of messages, though. */
	if (result < 0 && !moves_messages())
		return 0;
	tcp = bpf_skc_to_tcp_sock(sk);
	if (!tcp)
		return 0;
	socket_id = sk->sk_socket->file->f_inode->i_ino;
	call = new_socket_call();
	if (!socket_id /* of the kernel itself */ || !call)
		return 0;
	call->socket_id = socket_id;
	call->sk = (__u64)sk;
	call->direction = direction;
	call->flags = flags;
	call->result = result;
	read_call(call, result);
	if (result > 0) {
		call->sequence = direction == OT_EGRESS ? tcp->write_seq : tcp->copied_seq;
		socket_bytes();
	} else if (!result && direction == OT_INGRESS && call->count && !(flags & MSG_PEEK)) {
		socket_end(call);
	}
	return 0;
}

SEC("tp_btf/sock_send_length")
int socket_sent(__u64 *ctx)
{
	return socket_length((struct sock *)ctx[0], ctx[1], ctx[2], OT_EGRESS);
}

SEC("tp_btf/sock_recv_length")
int socket_received(__u64 *ctx)
{
	return socket_length((struct sock *)ctx[0], ctx[1], ctx[2], OT_INGRESS);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
