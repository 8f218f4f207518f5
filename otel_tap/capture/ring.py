"""The consumer side of a BPF ring buffer, by mapping it.

Source: Documentation/bpf/ringbuf.rst of the kernel. One page holds the consumer's position (ours
to write), the next the producer's, then the data, mapped twice in a row so that no record wraps.
A record's length has two flag bits: busy (still being written, so reading stops there) and
discarded. Reading positions and lengths without a barrier relies on x86-64's memory order.
"""

from __future__ import annotations

import mmap
import select
from collections.abc import Callable

_BUSY = 1 << 31
_DISCARDED = 1 << 30
_LENGTH = _DISCARDED - 1
_RECORD_HEADER = 8


class Ring:
    """One ring buffer map; `size` is its data size in bytes, a power of two."""

    def __init__(self, fd: int, size: int) -> None:
        page = mmap.PAGESIZE
        self._mask = size - 1
        self._consumer_map = mmap.mmap(
            fd, page, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE, offset=0
        )
        self._producer_map = mmap.mmap(
            fd, page + 2 * size, mmap.MAP_SHARED, mmap.PROT_READ, offset=page
        )
        self._consumer = memoryview(self._consumer_map).cast("Q")
        producer = memoryview(self._producer_map)
        self._producer = producer[:page].cast("Q")
        self._data = producer[page:]
        self._lengths = self._data.cast("I")
        self._size = size
        self._epoll = select.epoll()
        # Edge-triggered: only a forced wake-up ends the wait, not bytes that are there anyway.
        self._epoll.register(fd, select.EPOLLIN | select.EPOLLET)

    def wait(self, timeout_s: float) -> None:
        """Sleep until the kernel wakes us (a process was met) or the time is over."""
        self._epoll.poll(timeout_s)

    def drain(self, take: Callable[[memoryview], None], limit: int) -> int:
        """Give at most `limit` records to `take`, oldest first; returns how many.

        A record is only valid during the call: its room is given back afterwards.
        """
        consumer = self._consumer
        position = consumer[0]
        end = self._producer[0]
        data = self._data
        lengths = self._lengths
        mask = self._mask
        taken = 0
        while position < end and taken < limit:
            start = position & mask
            length = lengths[start >> 2]
            if length & _BUSY:
                break
            size = length & _LENGTH
            if not length & _DISCARDED:
                begin = start + _RECORD_HEADER
                take(data[begin : begin + size])
                taken += 1
            position += (size + _RECORD_HEADER + 7) & ~7
            consumer[0] = position
        return taken

    def close(self) -> None:
        """Unmap; records given out must no longer be in use."""
        self._epoll.close()
        for view in (self._consumer, self._producer, self._lengths, self._data):
            view.release()
