// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Programs that start, and the end of processes that were announced.
 */
#include <linux/bpf.h>

#include "emit.h"
#include "state.h"

SEC("raw_tp/sched_process_exec")
int process_exec(struct bpf_raw_tracepoint_args *ctx)
{
	struct task_struct *task = (struct task_struct *)ctx->args[0];
	struct linux_binprm *binprm = (struct linux_binprm *)ctx->args[2];
	__u64 start = BPF_CORE_READ(task, group_leader, start_boottime);
	__u32 tgid = BPF_CORE_READ(task, tgid);
	struct ot_process_started *event;

	/* What was not wanted was the program before. */
	bpf_map_delete_elem(&unwanted, &tgid);
	event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
	if (!event) {
		account(OT_LOST_RING_FULL, 0);
		return 0;
	}
	fill_process(event, task, tgid, start);
	bpf_probe_read_kernel_str(event->filename, sizeof(event->filename),
				  BPF_CORE_READ(binprm, filename));
	bpf_ringbuf_submit(event, BPF_RB_NO_WAKEUP);
	/* The first connection of the new program announces it again and wakes the agent. */
	bpf_map_delete_elem(&processes, &tgid);
	return 0;
}

SEC("raw_tp/sched_process_exit")
int process_exit(struct bpf_raw_tracepoint_args *ctx)
{
	struct task_struct *task = (struct task_struct *)ctx->args[0];
	__u32 tgid = BPF_CORE_READ(task, tgid);
	struct ot_process_exited *event;

	if (!bpf_map_lookup_elem(&processes, &tgid) || BPF_CORE_READ(task, signal, live.counter))
		return 0;
	bpf_map_delete_elem(&processes, &tgid);
	bpf_map_delete_elem(&unwanted, &tgid);
	event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
	if (!event) {
		account(OT_LOST_RING_FULL, 0);
		return 0;
	}
	event->header.type = OT_PROCESS_EXITED;
	event->header.tgid = tgid;
	event->header.ktime_ns = bpf_ktime_get_ns();
	bpf_ringbuf_submit(event, BPF_RB_NO_WAKEUP);
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
