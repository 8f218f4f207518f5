/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* System calls: which of them begin, end or use a descriptor. */

#define CALL_READ	   0
#define CALL_WRITE	   1
#define CALL_OPEN	   2
#define CALL_CLOSE	   3
#define CALL_PIPE	   22
#define CALL_READV	   19
#define CALL_WRITEV	   20
#define CALL_DUP	   32
#define CALL_DUP2	   33
#define CALL_SENDFILE	   40
#define CALL_SOCKET	   41
#define CALL_CONNECT	   42
#define CALL_ACCEPT	   43
#define CALL_SENDTO	   44
#define CALL_RECVFROM	   45
#define CALL_SENDMSG	   46
#define CALL_RECVMSG	   47
#define CALL_SHUTDOWN	   48
#define CALL_EXECVE	   59
#define CALL_FCNTL	   72
#define CALL_OPENAT	   257
#define CALL_SPLICE	   275
#define CALL_ACCEPT4	   288
#define CALL_EVENTFD2	   290
#define CALL_EPOLL_CREATE1 291
#define CALL_DUP3	   292
#define CALL_PIPE2	   293
#define CALL_RECVMMSG	   299
#define CALL_SENDMMSG	   307
#define CALL_EXECVEAT	   322

#define CALL_BIT(call) (1ULL << (call))
#define FOLLOWED                                                                                   \
	(CALL_BIT(CALL_READ) | CALL_BIT(CALL_WRITE) | CALL_BIT(CALL_OPEN) | CALL_BIT(CALL_READV) | \
	 CALL_BIT(CALL_WRITEV) | CALL_BIT(CALL_PIPE) | CALL_BIT(CALL_DUP) | CALL_BIT(CALL_DUP2) |  \
	 CALL_BIT(CALL_SENDFILE) | CALL_BIT(CALL_SOCKET) | CALL_BIT(CALL_CONNECT) |                \
	 CALL_BIT(CALL_ACCEPT) | CALL_BIT(CALL_SENDTO) | CALL_BIT(CALL_RECVFROM) |                 \
	 CALL_BIT(CALL_SENDMSG) | CALL_BIT(CALL_RECVMSG) | CALL_BIT(CALL_SHUTDOWN) |               \
	 CALL_BIT(CALL_EXECVE))

static int is_followed(__u64 number)
{
	if (number < 64)
		return FOLLOWED >> number & 1;
	return number == CALL_FCNTL || number == CALL_OPENAT || number == CALL_SPLICE ||
	       number == CALL_ACCEPT4 || number == CALL_EVENTFD2 || number == CALL_EPOLL_CREATE1 ||
	       number == CALL_DUP3 || number == CALL_PIPE2 || number == CALL_RECVMMSG ||
	       number == CALL_SENDMMSG || number == CALL_EXECVEAT;
}

/*
 * At its entry: once the call has given the number back, another thread may be given it again
 * before this one returns.
 */
int on_sys_enter(struct bpf_raw_tracepoint_args *ctx)
{
	struct pt_regs regs = {};
	struct fd_key key = {};

	if (ctx->args[1] != CALL_CLOSE)
		return 0;
	key.tgid = bpf_get_current_pid_tgid() >> 32;
	if (key.tgid == AGENT_TGID ||
	    bpf_probe_read_kernel(&regs, sizeof(regs), (void *)ctx->args[0]) ||
	    regs.cs != USER_CODE_64)
		return 0;
	key.fd = regs.di;
	end_descriptor(&key, OT_CONNECTION_CLOSED);
	return 0;
}

/* The saved registers still hold the arguments when a call returns; their layout is ptrace's. */
int on_sys_exit(struct bpf_raw_tracepoint_args *ctx)
{
	__u64 pid_tgid = bpf_get_current_pid_tgid();
	long result = (long)ctx->args[1];
	struct pt_regs regs = {};
	struct fd_key key = {};
	__u64 buffer = 0, vector = 0, vector_count = 0;
	__u32 direction = OT_INGRESS, gap_reason = 0;
	__u64 number = 0;
	__s32 pair[2];
	__u8 other;

	/* Every system call of the host comes by here: first what tells whether it matters. */
	if (bpf_probe_read_kernel(&number, sizeof(number),
				  &((struct pt_regs *)ctx->args[0])->orig_ax) ||
	    !is_followed(number) || pid_tgid >> 32 == AGENT_TGID ||
	    bpf_probe_read_kernel(&regs, sizeof(regs), (void *)ctx->args[0]))
		return 0;
	if (regs.cs != USER_CODE_64) /* a 32-bit task: its numbers mean something else */
		return 0;
	key.tgid = pid_tgid >> 32;
	key.fd = regs.di;
	switch (regs.orig_ax) {
	case CALL_READ:
	case CALL_RECVFROM:
		if (regs.orig_ax == CALL_RECVFROM && (regs.r10 & MSG_PEEK_))
			return 0;
		buffer = regs.si;
		if (result == 0 && regs.dx == 0)
			return 0;
		break;
	case CALL_WRITE:
	case CALL_SENDTO:
		buffer = regs.si;
		direction = OT_EGRESS;
		break;
	case CALL_READV:
		vector = regs.si;
		vector_count = regs.dx;
		break;
	case CALL_WRITEV:
		vector = regs.si;
		vector_count = regs.dx;
		direction = OT_EGRESS;
		break;
	case CALL_SENDMSG:
	case CALL_RECVMSG: {
		struct user_message message = {};

		if (regs.orig_ax == CALL_SENDMSG)
			direction = OT_EGRESS;
		else if (regs.dx & MSG_PEEK_)
			return 0;
		if (bpf_probe_read_user(&message, sizeof(message), (void *)regs.si))
			return 0;
		vector = message.vector;
		vector_count = message.vector_count;
		break;
	}
	case CALL_SENDFILE:
		direction = OT_EGRESS;
		gap_reason = OT_LOST_SENDFILE;
		break;
	case CALL_SPLICE:
		key.fd = regs.dx;
		direction = OT_EGRESS;
		gap_reason = OT_LOST_SENDFILE;
		break;
	case CALL_SENDMMSG:
	case CALL_RECVMMSG:
		/* How many bytes each message moved lies in an array that is not followed here. */
		if (result > 0)
			end_descriptor(&key, OT_CONNECTION_CLOSED);
		return 0;
	case CALL_SHUTDOWN: {
		struct fd_state *state = descriptors.lookup(&key);

		if (result == 0 && regs.si != SHUT_RD_ && state && state->announced)
			emit_closed(0, state->id, key.tgid, OT_EGRESS_END);
		return 0;
	}
	case CALL_CONNECT:
		if (result == 0 || result == -EINPROGRESS_)
			begin_descriptor(&key, regs.si, 0);
		return 0;
	case CALL_ACCEPT:
	case CALL_ACCEPT4:
		key.fd = result;
		if (result >= 0)
			begin_descriptor(&key, regs.si, 1 + (__u32)regs.di);
		return 0;
	case CALL_FCNTL:
		if (regs.si != F_DUPFD_ && regs.si != F_DUPFD_CLOEXEC_)
			return 0;
		/* fall through */
	case CALL_DUP:
	case CALL_DUP2:
	case CALL_DUP3:
		if (result >= 0 && result != key.fd) {
			struct fd_state *old = descriptors.lookup(&key);

			other = old && old->verdict == VERDICT_OTHER;
			key.fd = result;
			number_given(&key, other);
		}
		return 0;
	case CALL_SOCKET:
	case CALL_OPEN:
	case CALL_OPENAT:
	case CALL_EVENTFD2:
	case CALL_EPOLL_CREATE1:
		key.fd = result;
		if (result >= 0)
			number_given(&key, number != CALL_SOCKET);
		return 0;
	case CALL_PIPE:
	case CALL_PIPE2:
		if (result == 0 && !bpf_probe_read_user(pair, sizeof(pair), (void *)regs.di)) {
			key.fd = pair[0];
			number_given(&key, 1);
			key.fd = pair[1];
			number_given(&key, 1);
		}
		return 0;
	case CALL_EXECVE:
	case CALL_EXECVEAT:
		if (result == 0) {
			processes.delete(&key.tgid);
			unwanted.delete(&key.tgid);
			emit_process(key.tgid, 1, QUIET);
		}
		return 0;
	default:
		return 0;
	}
	if (result > 0) {
		descriptor_moved(&key, pid_tgid, direction, result, buffer, vector, vector_count,
				 gap_reason);
	} else {
		struct fd_state *state = descriptors.lookup(&key);

		if (!state || !(state->announced || state->bound) || gap_reason)
			return 0;
		if (result == -ECONNRESET_ || result == -EPIPE_)
			emit_closed(0, state->id, key.tgid, OT_CONNECTION_RESET);
		else if (result == 0 && direction == OT_INGRESS)
			emit_closed(0, state->id, key.tgid, OT_INGRESS_END);
	}
	return 0;
}
