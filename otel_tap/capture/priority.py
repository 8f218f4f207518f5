"""The agent's share of the CPUs: as any program's while there is little to do, less under load.

A quiet agent is as quick as any program, which it must be to read what /proc says of a process that
lives for moments. A busy one steps back: the programs that keep it busy want those CPUs, and what
it then cannot follow is left out and counted.
"""

from __future__ import annotations

import os
import time

_THREAD = 0  # setpriority(2) on Linux: of the calling thread
_INTERVAL_NS = 500_000_000
# Of one CPU, over an interval.
_BUSY = 0.4
_QUIET = 0.2


class Priority:
    """Nice value of the thread that drains the ring; `nice` is the one to step back to."""

    __slots__ = ("_back", "_cpu_ns", "_ktime_ns", "_nice", "_usual")

    def __init__(self, nice: int) -> None:
        self._usual = os.getpriority(os.PRIO_PROCESS, _THREAD)
        self._nice = max(nice, self._usual)
        self._back = False
        self._ktime_ns = 0
        self._cpu_ns = 0

    def update(self, ktime_ns: int, *, overloaded: bool) -> None:
        """Step back when busy or overloaded, come forward again when quiet.

        Without the right to come forward again it stays back. To be called by that thread.
        """
        passed = ktime_ns - self._ktime_ns
        if passed < _INTERVAL_NS:
            return
        cpu_ns = time.thread_time_ns()
        busy = (cpu_ns - self._cpu_ns) / passed
        self._ktime_ns = ktime_ns
        self._cpu_ns = cpu_ns
        back = overloaded or busy > (_QUIET if self._back else _BUSY)
        if back == self._back:
            return
        try:
            os.setpriority(os.PRIO_PROCESS, _THREAD, self._nice if back else self._usual)
        except PermissionError:
            return
        self._back = back
