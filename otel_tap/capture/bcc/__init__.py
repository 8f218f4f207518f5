"""The second way into the kernel: a small program of its own, compiled on this host by BCC.

For kernels without type information (BTF), and as an independent witness of what the first way
sees. It reads system call arguments and memory of processes, no structures of the kernel; whose
socket a descriptor is, user space finds out. It yields the same events.

What it cannot see, and what follows of it:

- TCP sequence numbers: both ends of a connection have no common name, so their spans share a trace
  only where a `traceparent` arrived, and offsets are counted from what was seen.
- The inode of a socket: a connection is a descriptor of a process. A descriptor inherited or
  received from another process, or duplicated, is met in the middle.
- What moves bytes without a call that is followed (`sendmmsg`, `recvmmsg`, `io_uring`).
- TCP's own end of a connection: it is over when the process closes it or a call says so.
- A peer whose socket was closed before the agent looked, unless `connect` or `accept` named it.
"""
